"""Figures that are kept for a test to look at instead of being written."""

import pytest

from samjax.figures import canvas


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that are drawn, laid out but not written."""
    figures = []

    def keep(figure, path, suffixes):
        figure.draw_without_rendering()
        figures.append(figure)

    monkeypatch.setattr(canvas, "save", keep)
    return figures
