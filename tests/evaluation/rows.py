"""Rows of made-up scores."""

import numpy as np

from samjax.metrics.rows import Row


def row(
    run: str, patient: str, dice: float, *, prompt: str = "box", scan: int = 0, z: int | None = None, **about
) -> Row:
    about = {"domain": "adult", "roi": "whole-tumor"} | about
    return Row(
        run=run, patient=patient, case=f"{patient}-{scan}", slice=z, prompt=prompt, true_pixels=9, pred_pixels=9,
        dice=dice, hd95=10 * (1 - dice), **about,
    )  # fmt: skip


def scored(run: str, dice: np.ndarray, **about) -> list[Row]:
    return [row(run, f"p{number:02d}", float(value), **about) for number, value in enumerate(dice)]
