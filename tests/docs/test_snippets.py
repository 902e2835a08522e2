"""Every command and snippet of README.md and docs/ does what the page says; ``blocks.py`` has the rules for pages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from prong.cell.engine import Cell, Engine, Template
from prong.store.paths import Paths
from tests.docs.blocks import REASONS, REPOSITORY, RUN, blocks, pages
from tests.docs.running import Differs, Page

WITH_BLOCKS = [page for page in pages() if any(b.language in RUN and not b.not_run for b in blocks(page))]


@pytest.fixture(scope="session")
def docs_home(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the images and the default template of the shared one, and all else of its own."""
    home = tmp_path_factory.mktemp("docs-home")
    shared = Paths(template.stored.folder.parents[2])
    assert shared.templates.samefile(template.stored.folder.parents[1])
    (home / "templates").mkdir()
    for name in ("images", f"templates/{template.name}"):
        os.symlink(shared.home / name, home / name)
    return home


@pytest.fixture(scope="session")
def docs_engine(docs_home: Path) -> Iterator[Engine]:
    """The ``engine`` of the pages."""
    with Engine(Paths(docs_home)) as engine:
        yield engine


@pytest.mark.kvm
@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_page(path: Path, docs_engine: Engine, docs_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRONG_HOME", str(docs_home))
    template = docs_engine.template()
    with template.fork() as cell:
        names = {"__name__": "__main__", "engine": docs_engine, "template": template, "cell": cell}
        images = frozenset(name for image in docs_engine.images.list() for name in image.names)
        page = Page(path, tmp_path, docs_home, images, names)
        try:
            assert page.run() > 0
        finally:
            for value in _flat(page.namespace.values()):
                if isinstance(value, Cell | Engine) and value is not docs_engine:
                    value.close()
            for snapshot in docs_engine.snapshots.ls():
                docs_engine.snapshots.rm(snapshot.id, force=True)


def _flat(values: Iterable[object]) -> Iterator[object]:
    """The values, those in lists among them, and the live forks of cells (a page may have dropped its handle)."""
    for value in list(values):
        if isinstance(value, list):
            yield from _flat(value)
        elif isinstance(value, Cell):
            yield from _flat(value.children)
            yield value
        else:
            yield value


def test_blocks_that_are_not_run_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    """They are listed with ``pytest -s``."""
    exempt = [block for page in pages() for block in blocks(page) if block.not_run]
    with capsys.disabled():
        if os.environ.get("PYTEST_XDIST_WORKER") is None:
            for block in exempt:
                print(f"\nnot run: {block.place} ({block.language}): {block.not_run}", end="")
    assert [block.place for block in exempt if not block.not_run.startswith(REASONS)] == [], f"begin with one of {REASONS}"
    assert [block.place for block in exempt if block.language not in RUN] == [], "these would not run anyway"


def test_no_block_hides_in_another_language() -> None:
    """A block that looks like commands or Python must say so, or it would not be run."""
    known = {*RUN, "text", "json", "yaml", "ini", "mermaid"}
    every = [block for page in pages() for block in blocks(page)]
    assert [f"{block.place}: {block.language or 'no language'}" for block in every if block.language not in known] == []
    assert [block.place for block in every if block.language not in RUN and block.text.startswith("$ ")] == []


def test_a_page_that_lies_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.blocks.REPOSITORY", tmp_path)
    page = tmp_path / "page.md"
    for text in (
        "```python\nprint(6 * 7)\n```\n\n```text\n43\n```\n",
        "```console\n$ echo a\nb\n```\n",
        "```console\n$ false\n```\n",
        "```sh\nfalse\ntrue\n```\n",
    ):
        page.write_text(text)
        with pytest.raises(Differs):
            Page(page, tmp_path, tmp_path).run()
    page.write_text("```python\nprint(6 * 7)\n```\n```text\n42\n```\n```console\n$ cat <<'E'\na\nE\na\n$ echo b\nb\n```\n")
    assert Page(page, tmp_path, tmp_path).run() == 2
