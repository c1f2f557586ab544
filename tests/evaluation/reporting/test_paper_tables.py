"""The papers' tables: which run fills which cell, what stands beside it, what is bold."""

from collections.abc import Sequence

import pytest

from samjax.evaluation.reporting import published
from samjax.evaluation.reporting.paper_tables import ScoredRun, domain_of, paper_tables
from samjax.evaluation.reporting.tables import Table
from samjax.evaluation.scoring import CaseScores, Row

REGIONS = ("enhancing", "non-enhancing", "edema", "whole-tumor")
B = ("adult glioma", "meningioma", "paediatric", "sub-Saharan")


def scored(dice: Sequence[float], roi: str, domain: str, patient: str = "p", chosen: int = 1) -> CaseScores:
    """A case with one slice for each Dice, the first `chosen` of which show the region; its volume has Dice 0."""
    about = {"run": "r", "domain": domain, "patient": patient, "case": patient, "roi": roi, "prompt": "box"}
    rows = tuple(Row(**about, slice=z, true_pixels=9, pred_pixels=9, dice=x, hd95=1.0) for z, x in enumerate(dice))
    volume = Row(**about, slice=None, true_pixels=9, pred_pixels=9, dice=0.0, hd95=1.0)
    return CaseScores(rows, tuple(z < chosen for z in range(len(rows))), volume)


def run(
    strategy: str,
    channels: str,
    *scores: CaseScores,
    trained: tuple[str, ...] = (),
    prompt: str = "box",
    decathlon: bool = True,
) -> ScoredRun:
    return ScoredRun(strategy, strategy, channels, trained, prompt, decathlon, scores)


def cells(table: Table) -> dict[tuple[str, str], str]:
    """Our cells that are filled, by row and column head."""
    return {
        (row[0], table.header[column]): cell
        for row in table.rows
        for column, cell in enumerate(row)
        if column and table.header[column] not in ("published",) and cell != "-"
    }


def only(tables: list[Table], start: str) -> Table:
    (table,) = [table for table in tables if table.caption.startswith(start)]
    return table


def bold(table: Table) -> set[tuple[str, str]]:
    return {(table.rows[row][0], table.header[column]) for row, column in table.bold}


def test_published_figures():
    t1gd, combined = published.PAPER_A["t1gd"], published.PAPER_A["flair,t1gd,t2"]
    columns = [zip(*(part[name] for name in ("pretrained", "fine-tuned", "unet")), strict=True)
               for part in (t1gd, combined)]  # fmt: skip
    assert published.REGIONS_A == REGIONS
    assert [list(column) for column in columns] == [
        [(0.60, 0.80, 0.83), (0.37, 0.56, 0.61), (0.32, 0.55, 0.65), (0.68, 0.80, 0.85)],
        [(0.53, 0.75, 0.84), (0.38, 0.54, 0.64), (0.41, 0.67, 0.78), (0.75, 0.88, 0.93)],
    ]
    assert published.PAPER_A["pca2d"] == {"fine-tuned": (0.71, 0.53, 0.55, 0.78)}
    assert published.DOMAINS_B == B
    assert published.ZERO_SHOT_B == {
        "t1": (4.33, 1.55, 3.43, 7.59),
        "t1gd": (6.51, 2.39, 4.24, 6.51),
        "t2": (4.51, 2.87, 1.76, 7.75),
        "flair": (3.85, 2.19, 3.08, 7.85),
        "t1,t2,flair": (5.14, 2.91, 2.99, 6.03),
    }
    assert published.LORA_B == {
        "t1": (58.45, 74.16, 65.62, 52.34),
        "t1gd": (58.54, 74.71, 65.59, 52.61),
        "t2": (58.19, 74.51, 65.36, 52.46),
        "flair": (59.64, 74.72, 65.46, 52.73),
        "t1,t2,flair": (57.87, 74.44, 65.37, 52.67),
    }
    assert published.LORA4CH_ADULT_B == (61.85, 65.68, 50.65, 56.20)
    assert published.LORA4CH_MENINGIOMA_B == (58.38, 75.27, 65.62, 52.35)
    assert published.TWO_STEP_B == (30.36, 32.77, 19.36, 26.84)
    assert published.FULL_B == (17.19, 14.92, 11.96, 11.71)
    assert published.SAM_MED_B == (47.2, 74.7, 52.8, 42.3)
    assert published.RANEM_B == (61.9, None, None, None)


@pytest.mark.parametrize(
    ("domain", "names"),
    {
        "adult glioma": ("gli", "BraTS-GLI", "adult", "glioma", "brats18", "brats", "HGG"),
        "meningioma": ("men", "MEN", "BraTS-MEN-Train", "meningioma", "brats23_men", "phantom-men"),
        "paediatric": ("ped", "PEDs", "paediatric", "pediatric", "pediatric-glioma", "BraTS-PED"),
        "sub-Saharan": ("ssa", "SSA", "africa", "sub-saharan", "sub_saharan", "subsaharan", "BraTS-SSA"),
    }.items(),
)
def test_domains_go_by_many_names(domain, names):
    assert {name: domain_of(name) for name in names} == dict.fromkeys(names, domain)


@pytest.mark.parametrize("name", ["demo", "", "mentor", "pedal", "site7"])
def test_other_names_are_no_domain_of_paper_b(name):
    assert domain_of(name) is None


def test_paper_a_is_filled_by_strategy_channels_and_region():
    runs = [
        run("zeroshot", "t1gd", scored([0.4, 0.0], "enhancing", "demo"), prompt="box"),
        run("decoder", "t1gd", scored([0.5, 0.0], "enhancing", "demo"), scored([0.9], "enhancing", "demo", "q")),
        run("unet", "t1gd", scored([0.6], "edema", "demo"), scored([0.7], "tumor-core", "demo"), prompt="none"),
        run("decoder", "pca2d", scored([0.3], "edema", "demo")),
        run("lora", "t1gd", scored([1.0], "enhancing", "demo")),
        run("decoder", "t2", scored([1.0], "enhancing", "demo")),
    ]
    tables = paper_tables(runs)
    assert [table.caption.split(":")[0] for table in tables] == ["A, table 1", "A, table 3"]
    first = tables[0]
    found = cells(first)
    assert found.keys() == {
        ("enhancing", "pretrained SAM"),
        ("enhancing", "decoder fine-tuned"),
        ("edema", "U-Net, no prompt"),
    }
    # Of the slices that show the region only: one of the zero-shot's two.
    assert found["enhancing", "pretrained SAM"] == "0.40 (1)"
    assert found["enhancing", "decoder fine-tuned"].startswith("0.70 ± 0.28 [0.50, 0.90] (2)")
    assert found["edema", "U-Net, no prompt"] == "0.60 (1)"
    assert first.header == ("ROI", "pretrained SAM", "published", "decoder fine-tuned", "published",
                            "U-Net, no prompt", "published")  # fmt: skip
    assert first.rows[0][2::2] == ("0.60", "0.80", "0.83")
    assert first.rows[2] == ("edema", "-", "0.32", "-", "0.55", "0.60 (1)", "0.65")
    assert bold(first) == {("enhancing", "decoder fine-tuned")}
    assert cells(tables[1]) == {("edema", "decoder fine-tuned"): "0.30 (1)"}
    assert bold(tables[1]) == set()


def test_paper_b_is_filled_by_strategy_training_domain_and_test_domain():
    def lora4ch(dice: float, trained: str, *domains: str) -> ScoredRun:
        scores = [scored([dice, 1.0], "whole-tumor", domain) for domain in domains]
        return run("lora4ch", "t1,t1gd,t2,flair", *scores, trained=(trained,), prompt="point")

    runs = [
        lora4ch(0.6, "gli", "BraTS-GLI", "men", "demo"),
        lora4ch(0.8, "men", "men", "peds", "sub-saharan"),
        lora4ch(0.1, "gli-and-more", "ssa"),  # another run on adult glioma, for what the first was not scored on
        run("lora4ch", "t1,t1gd,t2,flair", scored([0.99], "whole-tumor", "ped"), trained=("gli", "men")),
        run("lora", "t1", scored([0.9, 0.5], "whole-tumor", "gli"), scored([0.2], "edema", "men"), trained=("gli",),
            prompt="point"),
        run("zeroshot", "t1", scored([0.0, 0.5], "whole-tumor", "gli"), prompt="point"),
        run("full", "t1,t1gd,t2,flair", scored([0.25], "whole-tumor", "ssa"), trained=("gli",), prompt="point"),
    ]  # fmt: skip
    tables = paper_tables(runs)
    adult, men = "lora4ch, trained on adult glioma", "lora4ch, trained on meningioma"
    # Every slice counts.
    ours = {
        (adult, "adult glioma"): "80.0", (adult, "meningioma"): "80.0", (adult, "sub-Saharan"): "55.0",
        (men, "meningioma"): "90.0", (men, "paediatric"): "90.0", (men, "sub-Saharan"): "90.0",
    }  # fmt: skip
    first_only = {key: value for key, value in ours.items() if key[0] == adult}
    expected = {
        "B, table 1": {("zero-shot, t1", "adult glioma"): "25.0", ("lora, t1", "adult glioma"): "70.0"},
        "B, table 2": {("lora, t1", "adult glioma"): "70.0", **ours},
        "B, table 3": first_only,
        "B, table 4": {("full", "sub-Saharan"): "25.0", **first_only},
        "B, table 5": ours,
    }
    assert [table.caption.split(":")[0] for table in tables] == list(expected)
    for table in tables:
        values = {key: cell.split(" ")[0] for key, cell in cells(table).items()}
        assert values == expected[table.caption.split(":")[0]], table.caption
    fourth = only(tables, "B, table 4")
    assert [row[0] for row in fourth.rows] == ["full", adult]
    assert fourth.rows[0][2::2] == ("17.2", "14.9", "12.0", "11.7")
    assert bold(only(tables, "B, table 1")) == {("lora, t1", "adult glioma")}
    assert bold(only(tables, "B, table 2")) == {
        (adult, "adult glioma"), (men, "meningioma"), (men, "sub-Saharan"),
    }  # fmt: skip
    assert bold(fourth) == {(adult, "sub-Saharan")}
    ranem = only(tables, "B, table 5").rows[1]
    assert ranem[0].startswith("Ranem")
    assert ranem[1:] == ("-", "61.9", "-", "-", "-", "-", "-", "-")


LORA = ("lora", "t1", scored([0.9], "whole-tumor", "gli"))
DECODER = ("decoder", "t1gd", scored([0.9], "edema", "gli"))


def test_scores_of_another_protocol_fill_no_cell():
    ours = {"trained": ("gli",), "prompt": "point"}
    assert len(paper_tables([run(*LORA, **ours)])) == 2
    for other in ({"prompt": "box"}, {"prompt": "none"}, {"prompt": "point, 3 clicks"}, {"trained": ("gli", "men")},
                  {"trained": ("men",)}):  # fmt: skip
        assert paper_tables([run(*LORA, **ours | other)]) == [], other
    two = scored([0.1], "whole-tumor", "BraTS-GLI-2")
    assert paper_tables([run(*LORA, two, **ours)]) == [], "two domains would stand in one column"

    ours = {"trained": ("gli",), "prompt": "box"}
    assert len(paper_tables([run(*DECODER, **ours)])) == 1
    for other in ({"prompt": "point"}, {"prompt": "none"}, {"decathlon": False}, {"trained": ("gli", "men")},
                  {"trained": ("men",)}):  # fmt: skip
        assert paper_tables([run(*DECODER, **ours | other)]) == [], other


def test_captions_say_the_protocol():
    (first,) = paper_tables([run(*DECODER, trained=("gli",))])
    for words in ("Dice of gli", "every region has 250 pixels", "boxes from ground truth", "trained on this domain"):
        assert words in first.caption
    for table in paper_tables([run(*LORA, trained=("gli",), prompt="point")]):
        for words in ("all slices, empty ones included", "one click from ground truth", "one domain a column"):
            assert words in table.caption


def test_paper_a_has_a_table_for_each_domain():
    both = run("zeroshot", "t1gd", scored([0.2], "edema", "one"), scored([0.6], "edema", "two"))
    found = {table.caption.split(";")[1].split()[2]: cells(table) for table in paper_tables([both])}
    where = ("edema", "pretrained SAM")
    assert found == {"one": {where: "0.20 (1)"}, "two": {where: "0.60 (1)"}}


def test_no_table_without_a_filled_cell():
    assert paper_tables([]) == []
    runs = [
        run("predictions", "", scored([0.9], "whole-tumor", "gli")),
        run("lora4ch", "t1,t1gd,t2,flair", scored([0.9], "edema", "gli"), trained=("gli",), prompt="point"),
        run("lora4ch", "t1,t1gd,t2,flair", scored([0.9], "whole-tumor", "demo"), trained=("gli",), prompt="point"),
    ]
    assert paper_tables(runs) == []


def test_generated_scans_stand_beside_no_published_figure():
    case = scored([0.8], "whole-tumor", "phantom")
    lora = run("lora4ch", "t1,t1gd,t2,flair", case, trained=("gli",), prompt="point")
    assert paper_tables([run("decoder", "flair,t1gd,t2", case), lora]) == []
