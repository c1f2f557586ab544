"""The colours of all figures."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, told apart with any colour vision; one for each run, domain or score."""
FAINT = "#6b6b6b"
"""Colour of less important text and lines."""
GRID = "#e4e4e4"

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (0, 158, 15), (255, 221, 0), (255, 105, 180)
"""Colours of a prediction over its slice, as in paper A (fig. 5-8), in RGB of 0 to 255."""
BORDER = "#e8000b"
"""Colour of the label's border over a prediction."""
DIMMED = 0.75
"""Factor of the brightness of the slice beneath a prediction."""
OPACITY = 0.55
"""Opacity of a prediction over its slice."""

LABEL_OUTLINE, PREDICTION_OUTLINE = "#40e0ff", "#ffb000"
"""Colours of the outlines of label and prediction over a grey slice."""

CODE_COLOURS = {1: "#56b4e9", 2: "#e69f00", 3: "#cc79a7"}
"""Colours of the canonical codes over a grey scan: edema, non-enhancing core, enhancing tumour."""
