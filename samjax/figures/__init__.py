"""All figures that training and evaluation write, drawn from rows of scores or plain arrays.

They share one palette (`palette`), one style and one function for writing (`canvas`), and one wording (`captions`).
Matplotlib is imported where a figure is drawn, so that importing this package costs nothing.
"""
