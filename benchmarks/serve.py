"""How long does one wait at the page of `samjax serve`?

Requests of one client, or of four at once on a case each, to a server process with the model that comes with samjax,
its programs compiled before: the first mask after a case is asked for (reading, encoding and decoding), a further
click on a slice that is encoded (median, and the 95th percentile of 100), and the propagation of a mask, for 60 slices.
Beside the click the same without HTTP, and the decoder alone. `vit_b` is a click with the weights of the preset.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import Setting
from benchmarks.random_weights import weights_path, write_weights
from benchmarks.scans import one_scan
from benchmarks.sides import our_side
from benchmarks.work import Benchmark, Comparison, Work

CLICKS, CLIENTS, SLICES = 100, 4, 60
PERCENTILE = 95


class Client:
    """What the page asks for one case."""

    def __init__(self, address: str, case: str):
        import httpx

        self._http = httpx.Client(base_url=f"{address}/api/cases/{case}/", timeout=600)
        self.version = 0

    def open(self) -> dict[str, Any]:
        found = self._http.post("open", json={}).raise_for_status().json()
        self.version = found["version"]
        return found

    def edit(self, action: str, **body: Any) -> list[int]:
        """Makes an edit and returns the slices that it changed."""
        import json
        import struct

        content = self._http.post(action, json={"version": self.version, **body}).raise_for_status().content
        (length,) = struct.unpack_from("<I", content)
        fields = json.loads(content[4 : 4 + length])
        self.version = fields["version"]
        return fields["slices"]

    def click(self, place: Sequence[int]) -> float:
        """The seconds of a click at (slice, row, column)."""
        begin = time.perf_counter()
        self.edit("click", slice=place[0], row=place[1], column=place[2], positive=True)
        return time.perf_counter() - begin

    def wait_until_encoded(self) -> None:
        """Returns when every slice has its embedding."""
        while (found := self.open())["embedded"] < found["shape"][0]:
            time.sleep(0.2)


@contextmanager
def server(setting: Setting, *options: object) -> Iterator[str]:
    """A server of copies of one scan; yields its address."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        command = [sys.executable, "-m", "samjax", "serve", "--port", "0", "--no-browser", "--input", *_cases(setting)]
        command += ["--output", folder, "--cache-dir", str(setting.folder / "cache"), *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline()
            yield re.search(r"http://\S+", line)[0]
        finally:
            process.terminate()
            process.wait()


def _cases(setting: Setting) -> list[str]:
    """One scan under a name for each client."""
    case = one_scan(setting)
    folders = []
    for number in range(CLIENTS):
        name = f"BraTS-GLI-{number:05d}-000"
        folder = setting.folder / "serve" / name
        folder.mkdir(parents=True, exist_ok=True)
        for modality, ending in {"t1": "t1n", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}.items():
            path = folder / f"{name}-{ending}.nii{'.gz' if case.images[modality].path.suffix == '.gz' else ''}"
            path.unlink(missing_ok=True)
            path.symlink_to(case.images[modality].path.resolve())
        folders.append(str(folder))
    return folders


def names() -> list[str]:
    return [f"BraTS-GLI-{number:05d}-000" for number in range(CLIENTS)]


def tumour(setting: Setting) -> tuple[int, int, int]:
    """A voxel in the middle of the slice that shows most of the scan's tumour."""
    from samjax.data.cache.cases import open_case
    from samjax.inference.propagation import click_inside

    labels = open_case(one_scan(setting), None).whole_labels() > 0
    z = int(labels.sum(axis=(1, 2)).argmax())
    (x, y, _) = click_inside(labels[z], z).clicks[0]
    return z, y, x


def first_mask(setting: Setting) -> Work:
    place = tumour(setting)

    def run() -> float:
        with server(setting) as address:
            warm = Client(address, names()[1])  # the programs are loaded, as for the second case of a session
            warm.open()
            warm.click(place)
            client = Client(address, names()[0])
            begin = time.perf_counter()
            client.open()
            client.click(place)
            return time.perf_counter() - begin

    return Work(run, once=True, own_memory=False, seconds=float)


def clicks(clients: int, share: float, *options: object, each: int = CLICKS):
    """A side that measures a share of the seconds of clicks by so many clients at once; 50 is the median."""

    def prepare(setting: Setting) -> Work:
        place = tumour(setting)

        def run() -> float:
            with server(setting, *_given(options, setting)) as address:
                found = [Client(address, name) for name in names()[:clients]]
                for client in found:
                    client.open()
                    client.click(place)
                    if not options:
                        client.wait_until_encoded()
                    client.click(place)

                def many(client: Client) -> list[float]:
                    return [client.click((place[0], place[1], place[2] + n % 3)) for n in range(each)]

                with ThreadPoolExecutor(clients) as pool:
                    seconds = [second for some in pool.map(many, found) for second in some]
                return float(np.percentile(seconds, share))

        return Work(run, once=True, own_memory=False, seconds=float)

    return prepare


def _given(options: Sequence[object], setting: Setting) -> list[object]:
    return [weights_path(setting) if option is weights_path else option for option in options]


def propagation(setting: Setting) -> Work:
    z, y, x = tumour(setting)

    def run() -> float:
        with server(setting) as address:
            client = Client(address, names()[0])
            client.wait_until_encoded()
            client.click((z, y, x))
            client.edit("propagate", slice=z, direction="up")
            begin = time.perf_counter()
            reached = client.edit("propagate", slice=z, direction="both")
            return (time.perf_counter() - begin) * SLICES / max(len(reached), 1)

    return Work(run, once=True, own_memory=False, seconds=float)


def editing(setting: Setting) -> Work:
    """A click without HTTP, its autosave included."""
    place, editor = _editor(setting)

    def run() -> float:
        begin = time.perf_counter()
        editor.click(*place)
        took = time.perf_counter() - begin
        editor.undo()  # so that every click is the slice's first
        return took

    return Work(run, seconds=float)


def decoding(setting: Setting) -> Work:
    """The decoder alone, with masks brought to the pixels of the scan."""
    from samjax.inference.prompts import SlicePrompt

    (z, y, x), editor = _editor(setting)
    prompts = [SlicePrompt(z, ((x, y, 1),))]
    return Work(lambda: editor.case.volume.predict_slices(prompts))


def _editor(setting: Setting):
    from samjax.inference.loading import model_of_run
    from samjax.runs.folder import GLIOMA, find_model
    from samjax.serve.editor import Editor
    from samjax.serve.engine import Engine
    from samjax.serve.journal import Journal
    from samjax.serve.opened import OpenedCase

    run = find_model(Path(GLIOMA))
    engine = Engine(model_of_run(run), run)
    case = OpenedCase.from_files(engine.model, replace(one_scan(setting), label=None), run)
    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    return tumour(setting), Editor(engine, case, Journal(folder / "journal.jsonl", {"scan": case.digest}))


def write_files(setting: Setting) -> None:
    write_weights(setting)
    place = tumour(setting)
    for options in ((), ("--weights", weights_path(setting))):  # compiles what a second start finds
        with server(setting, *options) as address:
            client = Client(address, names()[0])
            client.open()
            client.click(place)
            client.click(place)


BENCHMARK = Benchmark(
    {
        "first_mask": our_side(first_mask),
        "click": our_side(clicks(1, 50)),
        "click_p95": our_side(clicks(1, PERCENTILE)),
        "click_4": our_side(clicks(CLIENTS, 50)),
        "click_4_p95": our_side(clicks(CLIENTS, PERCENTILE)),
        "propagation": our_side(propagation),
        "editing": our_side(editing),
        "decoding": our_side(decoding),
        "vit_b": our_side(clicks(1, 50, "--weights", weights_path, each=5)),
    },
    tuple(
        Comparison(f"serve/{name}", name, None)
        for name in (
            "first_mask", "click", "click_p95", "click_4", "click_4_p95", "propagation", "editing", "decoding", "vit_b",
        )
    ),
    write_files,
    note="click and propagation: embeddings there; editing: no HTTP; decoding: no autosave either",
)  # fmt: skip
