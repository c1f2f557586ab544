"""The published Dice scores of the two papers, for the tables' "published" columns."""

REGIONS_A = ("enhancing", "non-enhancing", "edema", "whole-tumor")
DOMAINS_B = ("adult glioma", "meningioma", "paediatric", "sub-Saharan")

Published = tuple[float | None, ...]

PAPER_A: dict[str, dict[str, Published]] = {
    # channels: model: Dice of REGIONS_A
    "t1gd": {
        "pretrained": (0.60, 0.37, 0.32, 0.68),
        "fine-tuned": (0.80, 0.56, 0.55, 0.80),
        "unet": (0.83, 0.61, 0.65, 0.85),
    },
    "flair,t1gd,t2": {
        "pretrained": (0.53, 0.38, 0.41, 0.75),
        "fine-tuned": (0.75, 0.54, 0.67, 0.88),
        "unet": (0.84, 0.64, 0.78, 0.93),
    },
    "pca2d": {"fine-tuned": (0.71, 0.53, 0.55, 0.78)},
}
"""Paper A, tables 1 to 3; its U-Net is nnU-Net v2."""

ZERO_SHOT_B: dict[str, Published] = {
    "t1": (4.33, 1.55, 3.43, 7.59),
    "t1gd": (6.51, 2.39, 4.24, 6.51),
    "t2": (4.51, 2.87, 1.76, 7.75),
    "flair": (3.85, 2.19, 3.08, 7.85),
    "t1,t2,flair": (5.14, 2.91, 2.99, 6.03),
}
LORA_B: dict[str, Published] = {
    "t1": (58.45, 74.16, 65.62, 52.34),  # table 1 prints 65.68 for the paediatric cases, table 2 this
    "t1gd": (58.54, 74.71, 65.59, 52.61),
    "t2": (58.19, 74.51, 65.36, 52.46),
    "flair": (59.64, 74.72, 65.46, 52.73),
    "t1,t2,flair": (57.87, 74.44, 65.37, 52.67),
}
LORA4CH_ADULT_B: Published = (61.85, 65.68, 50.65, 56.20)
LORA4CH_MENINGIOMA_B: Published = (58.38, 75.27, 65.62, 52.35)
TWO_STEP_B: Published = (30.36, 32.77, 19.36, 26.84)
FULL_B: Published = (17.19, 14.92, 11.96, 11.71)
SAM_MED_B: Published = (47.2, 74.7, 52.8, 42.3)
RANEM_B: Published = (61.9, None, None, None)
"""Paper B, tables 1 to 5, Dice x 100 on DOMAINS_B."""
