"""The colours of all figures."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, told apart with any colour vision; one for each run, domain or score."""
FAINT = "#6b6b6b"
"""Text and lines that stand back."""
GRID = "#e4e4e4"

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (0, 158, 15), (255, 221, 0), (255, 105, 180)
"""Pixels of a prediction over its slice, as paper A colours them (fig. 5-8), in RGB of 0 to 255."""
BORDER = "#e8000b"
"""Border of the label over a prediction."""
DIMMED = 0.75
"""Share of its brightness that the slice beneath a prediction keeps."""
OPACITY = 0.55
"""Opacity of a prediction over its slice."""

LABEL_OUTLINE, PREDICTION_OUTLINE = "#40e0ff", "#ffb000"
"""Outlines of label and prediction over a grey slice."""
