"""`samjax push`: uploads a finished run, packed and with its card, to the Hugging Face Hub."""

import sys
import tempfile
from pathlib import Path

from samjax.inference.card import card_of
from samjax.inference.pack import pack
from samjax.options import PushOptions
from samjax.runs.folder import CARD, find_model
from samjax.weights.hub import MODEL, HubName, require, upload


def main(options: PushOptions) -> None:
    """Uploads, and prints the address and how to use the model."""
    wanted = HubName.parse(options.name)
    require(options.name)
    run = find_model(options.run)
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / MODEL
        pack(run, packed, options.weights, options.labels)
        size = packed.stat().st_size
        files = {MODEL: packed, CARD: card_of(run, wanted.repo, options.license).encode()}
        address = upload(options.name, files, f"Upload {wanted.name}, packed by samjax", options.public)
    print(f"{address}: {size / 1e6:.1f} MB")
    print(f"use it: samjax predict --run {options.name} --input CASE --output OUT")
    if options.license is None and not (run / CARD).is_file():
        print("note: its card names no licence, so that nobody may use it; name one with --license", file=sys.stderr)
