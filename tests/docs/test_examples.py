"""The worked examples of the guides on extending samjax run as they are written."""

from pathlib import Path

import pytest

from samjax.strategies import STRATEGIES
from tests.docs.pages import DOCS, code_blocks


@pytest.mark.parametrize("page", sorted((DOCS / "extending").glob("*.md")), ids=lambda page: page.stem)
def test_example_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Blocks of a page follow each other in one program, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    # The tests keep compiled programs in a folder of their own.
    monkeypatch.setattr("samjax.cli.train.use_compilation_cache", lambda folder: None)
    blocks = code_blocks(page, "python")
    assert len(blocks) > 2
    program: dict = {"__name__": page.stem}
    before = set(STRATEGIES)
    try:
        for number, block in enumerate(blocks):
            exec(compile(block, f"{page.name}, block {number}", "exec"), program)
    finally:  # the table of strategies as it was
        for name in set(STRATEGIES) - before:
            del STRATEGIES[name]
