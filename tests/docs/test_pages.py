"""What the pages of the documentation say, as files: links lead somewhere, names exist, commands have pages."""

from pkgutil import resolve_name

import pytest

from samjax.cli.main import COMMANDS
from tests.docs.pages import DOCS, ROOT, links, markdown_files, names_of_samjax, sections


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", markdown_files(), ids=named)
def test_links_lead_to_files_and_sections(page):
    for target in links(page):
        path, _, section = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), target
        linked_page = DOCS in page.parents and not file.suffix and file.with_suffix(".md").is_file()
        assert file.exists() or linked_page, f"{target}: no such file"
        if section:
            assert section in sections(file), f"{target}: no such section"


@pytest.mark.parametrize("page", markdown_files(), ids=named)
def test_names_of_the_package_exist(page):
    for name in names_of_samjax(page):
        resolve_name(name)


def test_every_command_has_a_page_made_of_its_help():
    folder = DOCS / "reference" / "commands"
    assert {path.stem for path in folder.glob("*.md")} == {*COMMANDS, "index"}
    index = links(folder / "index.md")
    for name in COMMANDS:
        assert f"```{{command-options}} {name}\n" in (folder / f"{name}.md").read_text()
        assert f"{name}.md" in index
