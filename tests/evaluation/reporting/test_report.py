"""The report: one file that needs no other, names escaped, and a viewer whose data are what was given."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from html import unescape
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from samjax.evaluation.reporting.report import (
    EvaluationReport,
    ReportedFigure,
    ReportedRun,
    numeric_columns,
    write_report,
)
from samjax.evaluation.reporting.tables import Table
from samjax.evaluation.reporting.viewer import ViewerCase, crop, payload, run_lengths
from samjax.metrics.overlap import dice

EVIL = '</script><img src="//x" onerror=alert(1)> & "quoted"'
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CONFINED = CHROMIUM is not None and CHROMIUM.startswith("/snap/")  # a snap may not read temporary files


def png(width: int = 8, height: int = 6) -> bytes:
    file = BytesIO()
    Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width)).save(file, "png")
    return file.getvalue()


def case(name: str = "p0") -> ViewerCase:
    """A smooth ball off the middle, brighter in later modalities, with a tumour and two predictions."""
    z, y, x = np.mgrid[:14, :40, :36]
    inside = ((z - 7) / 5) ** 2 + ((y - 22) / 15) ** 2 + ((x - 15) / 12) ** 2 < 1
    images = {name: (inside * (40 + 30 * i + 2 * y + z)).astype(np.uint8) for i, name in enumerate(("T2", "T1", "FL"))}
    whole = (z - 6) ** 2 + (y - 20) ** 2 + (x - 14) ** 2 < 20
    return ViewerCase(
        name,
        images,
        {"whole-tumor": whole, "edema": whole & (x > 14)},
        {"boxed": {"whole-tumor": np.roll(whole, 1, axis=1)}, "free": {"edema": whole, "whole-tumor": whole}},
        (1.0, 1.0, 1.2),
    )


def run(name: str, prompt: str, **config) -> ReportedRun:
    return ReportedRun(name, "lora4ch", prompt, "none" if prompt == "none" else "ground truth", "ab" * 32, config)


def report(**changes) -> EvaluationReport:
    whole = {
        "title": "Evaluation",
        "runs": (run("boxed", "box", lr=1e-4, channels="t1,t2"), run("free", "none", fold=None)),
        "tables": (Table("Dice by volume", ("run", "Dice ± SD", "n"), (("boxed", "0.8 ± 0.1", "4"),)),),
        "tests": (Table("Wilcoxon", ("first", "p"), (("boxed", "< 0.001"),)),),
        "figures": (ReportedFigure("Dice", "Box plots.", png()),),
        "cases": (case(),),
        "environment": {"device": "CPU", "command": "python eval.py --run a"},
    }
    return EvaluationReport(**whole | changes)


@pytest.fixture
def written(tmp_path):
    """Writes a report and reads it back."""

    def write(**changes) -> str:
        write_report(tmp_path / "report.html", report(**changes))
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def embedded(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', html)[1])


def mask_of(text: str, shape) -> np.ndarray:
    """Reads run lengths back."""
    lengths, length, shift = [], 0, 0
    for byte in b64decode(text):
        length, shift = length + ((byte & 127) << shift), shift + 7
        if byte < 128:
            lengths.append(length)
            length, shift = 0, 0
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(shape)


def volume_of(data: dict, name: str) -> np.ndarray:
    """Reads a sheet back, slice by slice."""
    kind, content = data["sheets"][name].split(",")
    assert kind in ("data:image/webp;base64", "data:image/jpeg;base64")
    picture = np.asarray(Image.open(BytesIO(b64decode(content))).convert("L"))
    slices, rows, columns = data["shape"]
    across = data["sheet_columns"]
    found = []
    for z in range(slices):
        top, left = z // across * rows, z % across * columns
        found.append(picture[top : top + rows, left : left + columns])
    return np.array(found)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((3, 4, 5), bool),
        np.ones((3, 4, 5), bool),
        np.random.default_rng(0).random((7, 9, 11)) < 0.5,
        np.arange(60).reshape(3, 4, 5) == 0,
        np.arange(60).reshape(3, 4, 5) == 59,
        np.pad(np.ones((1, 127, 1), bool), ((0, 0), (128, 0), (0, 0))),
        np.pad(np.ones((2, 100, 100), bool), ((3, 200), (0, 0), (0, 0))),
    ],
)
def test_masks_come_back(mask):
    assert np.array_equal(mask_of(run_lengths(mask), mask.shape), mask)


def test_run_lengths_by_hand():
    mask = np.repeat([False, True, False, True], [2, 200, 1, 16384])
    assert list(b64decode(run_lengths(mask))) == [2, 200 & 127 | 128, 1, 1, 128, 128, 1]
    assert list(b64decode(run_lengths(~mask))) == [0, 2, 200 & 127 | 128, 1, 1, 128, 128, 1]


def test_the_viewers_data_are_the_cases(written):
    given = case()
    data = embedded(written())
    (found,) = data["cases"]
    box = crop(given)
    assert [side.start for side in box] == found["start"] == [2, 8, 4]
    assert found["shape"] == [10, 29, 23]
    assert (found["slices"], found["spacing"]) == (14, [1.0, 1.0, 1.2])
    assert list(found["sheets"]) == ["T2", "T1", "FL"]
    assert list(found["truth"]) == ["whole-tumor", "edema"]
    for roi, mask in given.truth.items():
        assert np.array_equal(mask_of(found["truth"][roi], found["shape"]), mask[box])
    for name, regions in given.predictions.items():
        assert list(found["predictions"][name]) == list(regions)
        for roi, mask in regions.items():
            assert np.array_equal(mask_of(found["predictions"][name][roi], found["shape"]), mask[box])
    for name, image in given.images.items():
        off = volume_of(found, name).astype(float) - image[box]
        assert np.sqrt(np.mean(off**2)) < 8
        # Slices differ by more than the loss, so that one out of place would show.
        assert np.sqrt(np.mean((off + image[box] - image[box][::-1]) ** 2)) > 20
    assert data["runs"]["boxed"] == {"prompts": "prompts from ground truth (box)", "prompted": True}
    assert data["runs"]["free"] == {"prompts": "no prompts", "prompted": False}


def test_the_crop_holds_every_mask_and_an_empty_case_whole():
    given = case()
    given.predictions["free"]["edema"][13, 39, 0] = True
    assert crop(given) == (slice(2, 14), slice(8, 40), slice(0, 27))
    empty = ViewerCase("e", {"T1": np.zeros((2, 3, 4), np.uint8)}, {}, {})
    assert payload(empty)["shape"] == [2, 3, 4]


def test_what_does_not_fit_is_refused(tmp_path):
    image, mask = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), bool)
    for images, truth, predictions in (
        ({}, {}, {}),
        ({"T1": image[0]}, {}, {}),
        ({"T1": image}, {"edema": mask[1:]}, {}),
        ({"T1": image.astype(float)}, {}, {}),
        ({"T1": image}, {"edema": image}, {}),
        ({"T1": image}, {"edema": mask}, {"a": {"whole-tumor": mask}}),
    ):
        with pytest.raises(ValueError, match="viewer: case c"):
            ViewerCase("c", images, truth, predictions)
    with pytest.raises(ValueError, match="predictions of boxed"):
        write_report(tmp_path / "r.html", report(runs=(run("free", "none"),)))
    with pytest.raises(ValueError, match="figure Dice: expected the bytes of a PNG"):
        write_report(tmp_path / "r.html", report(figures=(ReportedFigure("Dice", "", b"GIF89a"),)))
    assert list(tmp_path.iterdir()) == []


def test_the_file_needs_no_other(written):
    html = written()
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest|\bimport\b", html)
    links = [link for link in Outline(html).links if not link.startswith("#")]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "default-src 'none'; img-src data:" in html


def test_tables_figures_and_runs_are_there(written):
    html = written()
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html)]
    assert cells == ["boxed", "0.8 ± 0.1", "4", "boxed", "< 0.001"]
    for text in ("Dice by volume", "Wilcoxon", "Box plots.", "Research use only", "python eval.py --run a", "ab" * 32):
        assert text in html
    (image,) = re.findall(r'<img src="data:image/png;base64,([^"]*)"[^>]*width="4" height="3"', html)
    assert b64decode(image) == png()
    about = re.findall(r"<dt><code>(.*?)</code></dt><dd><code>(.*?)</code></dd>", html)
    assert about == [("lr", "0.0001"), ("channels", "t1,t2"), ("fold", "null")]
    assert "<strong>boxed</strong>: prompts from ground truth (box)" in html
    assert "<strong>free</strong>: no prompts" in html


def test_what_is_not_there_leaves_no_trace(written):
    html = written(tests=(), figures=(), cases=())
    assert not re.search(r'<script|<img|href="#(tests|figures|slices)"', html)
    assert html.rstrip().endswith("</html>")


def test_names_are_escaped(written):
    table = Table(EVIL, (EVIL,), ((EVIL,),))
    hostile = ViewerCase(EVIL, case().images, {EVIL: case().truth["edema"]}, {EVIL: {EVIL: case().truth["edema"]}})
    html = written(
        title=EVIL,
        runs=(run(EVIL, EVIL, **{EVIL: EVIL}),),
        tables=(table,),
        tests=(table,),
        figures=(ReportedFigure(EVIL, EVIL, png()),),
        cases=(hostile,),
        environment={EVIL: EVIL},
    )
    assert "onerror=alert(1)>" not in html
    assert html.count("</script>") == 2
    assert embedded(html)["cases"][0]["id"] == EVIL
    assert unescape(re.search("<title>(.*)</title>", html)[1]) == EVIL


class Outline(HTMLParser):
    """What is open, the links, the ids, and what refers to them."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.ids, self.references, self.links = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            elif name in ("for", "aria-labelledby", "aria-describedby") or (name == "href" and value[0] == "#"):
                self.references.append(value.removeprefix("#"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_tags_close_and_references_lead_somewhere(written):
    for outline in (Outline(written()), Outline(written(tests=(), figures=(), cases=()))):
        assert outline.open == []
        assert len(outline.ids) == len(set(outline.ids))
        assert set(outline.references) <= set(outline.ids)


def test_numbers_are_set_flush_right():
    rows = (("2d", "0.8 ± 0.1", "< 0.001", "-", "box", "+0.10"), ("b", "0.7", "-0.2", "3", "2", "0.1 to 0.2"))
    assert numeric_columns(Table("", tuple("abcdef"), rows)) == [False, True, True, True, False, True]
    assert numeric_columns(Table("", ("a", "b"), ())) == [False, True]


@pytest.mark.skipif(CHROMIUM is None or CONFINED, reason="no Chromium that reads temporary files")
def test_a_browser_shows_the_slice_that_keys_lead_to(tmp_path):
    write_report(tmp_path / "report.html", report())
    keys = """<script>
      const panes = document.getElementById("viewer-panes");
      for (const key of ["Home", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowDown", "2", "o"])
        panes.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    </script>"""
    html = (tmp_path / "report.html").read_text(encoding="utf-8").replace("</body>", keys + "</body>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "report.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    given = case()
    truth = given.truth["whole-tumor"]
    assert "p0, T1, slice 4 (0 to 13): 45 pixels of whole-tumor" in page
    assert truth[4].sum() == 45
    for masks in given.predictions.values():
        found = masks["whole-tumor"]
        assert f"Dice: slice {dice(found[4], truth[4]):.3f}, volume {dice(found, truth):.3f}" in page
    assert len(re.findall(r"<canvas[^>]*role=\"img\"", page)) == 3
