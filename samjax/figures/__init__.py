"""The one plotting room: every figure that training and evaluation write, from rows of scores or plain arrays.

All figures share one palette (`palette`), one style and one way to be written (`canvas`), and one wording (`captions`).
Matplotlib is imported where a figure is drawn, so that importing this package costs nothing.
"""
