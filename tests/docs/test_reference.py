"""The generated reference is what ``scripts/reference`` would write now, and names everything there is."""

from __future__ import annotations

from dataclasses import fields

import pytest

from prong.cell.host.spec import CallLimits
from prong.cell.limits import Limits
from tests.docs import reference, reference_limits


@pytest.fixture(scope="module")
def wanted() -> dict[str, str]:
    return reference.wanted()


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_fresh(name: str, wanted: dict[str, str]) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == wanted[name], f"docs/reference/{name} is stale: run scripts/reference"


def test_generating_twice_gives_the_same(wanted: dict[str, str]) -> None:
    assert reference.wanted() == wanted


def test_every_limit_is_explained() -> None:
    names = {field.name for kind in (Limits, CallLimits) for field in fields(kind)}
    assert set(reference_limits.MEANINGS) == set(reference_limits.REPORTS) == names


def test_commands_and_classes_are_there(wanted: dict[str, str]) -> None:
    for command in ("prong run", "prong repl", "prong image build", "prong template create", "prong export", "prong bench"):
        assert f"## `{command}`" in wanted["cli.md"]
    for name in ("Engine.template", "Cell.run", "Cell.fork", "Files.read", "prong.on_fork"):
        assert f"#### `{name}(" in wanted["python.md"]
    assert "`sandbox_gone`" in wanted["errors.md"]
    assert "0x" not in wanted["python.md"], "an address would differ at every run"
