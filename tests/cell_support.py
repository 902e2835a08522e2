"""Fixtures for tests that run real cells: ``engine``, ``template``, ``cell``. Loaded as a plugin by ``tests/conftest.py``.

The data directory is ``PRONG_HOME`` or the user's, looked up when this is loaded: a test that points the variable
elsewhere does not move it. The default image and template are made once if they are not there; workers of one run wait
for each other (the stores lock). Each worker has an engine of its own over that directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from prong.errors import Conflict
from prong.store.paths import Paths

if TYPE_CHECKING:
    from prong.cell.engine import Cell, Engine, Template

PATHS = Paths.resolve()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine over the shared data directory, closed at the end of the session."""
    from prong.cell.engine import Engine  # only when a test asks: other tests must not need it to import

    with Engine(PATHS) as engine:
        yield engine


@pytest.fixture(scope="session")
def template(engine: Engine) -> Template:
    """The default template, loaded."""
    try:
        return engine.template()
    except Conflict:  # another worker made it while this one waited for its turn
        return engine.template()


@pytest.fixture
def cell(template: Template) -> Iterator[Cell]:
    """A fresh fork of the default template."""
    with template.fork() as cell:
        yield cell
