"""docs/reference/python.md: the Python API of the engine, and the module code in a cell sees, from their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import prong.guest.usermodule
from prong.cell.engine import Cell, Engine, Template
from prong.cell.engine.booting import Program
from prong.cell.engine.ending import Ending
from prong.cell.engine.engine import TemplateSpec
from prong.cell.engine.files import FileInfo, Files
from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cell.limits import Limits
from prong.cell.results import ErrorInfo, Execution, LimitHit, Refused, Result, SyntaxPlace, TraceFrame
from prong.guest.forking import ForkState
from prong.image import ImageStore
from prong.store.manifest import SnapshotManifest
from prong.store.snapshots import Snapshot, SnapshotStore
from prong.store.templates import TemplateStore

RESULTS = (Execution, Result, ErrorInfo, TraceFrame, SyntaxPlace, LimitHit, Refused)
STORES = (ImageStore, TemplateStore, SnapshotStore, Snapshot, SnapshotManifest)
SECTIONS: tuple[tuple[str, str, tuple[type, ...]], ...] = (
    ("The engine", "Where everything begins.", (Engine, TemplateSpec, Template)),
    ("Cells", "What forks give, and what runs code.", (Cell, RunOptions, Files, FileInfo, Limits)),
    ("Results", "What a run gave. All are frozen.", RESULTS),
    ("Programs without the Python runtime", "For `Engine.program`.", (Program, RunCollector, Ending)),
    ("Stores", "`Engine.images`, `.templates`, `.snapshots`.", STORES),
)
INTRODUCTION = """\
# Python API

The small API of the cell engine, which the command line uses too. [How to use it](../how-to/python-api.md) has
examples. What is not here is not for use from outside. Errors are in [errors](errors.md).
"""
INSIDE = """\
## Inside a cell: `import prong`

Code in a cell may import this module, which shares nothing with the package of that name outside. `display(…)` is also
a builtin.
"""
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
_HEADINGS = {"Args:": "Arguments:", "Raises:": "Raises:", "Returns:": "Returns:", "Attributes:": "Attributes:"}


def python_page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for title, about, classes in SECTIONS:
        parts += [f"## {title}", "", about, ""]
        parts += [_class(cls) for cls in classes]
    parts += [INSIDE, *_inside()]
    return "\n".join(parts)


def _class(cls: type) -> str:
    has_signature = "__init__" in vars(cls) and not issubclass(cls, Snapshot)
    signature = _signature(cls) if has_signature and cls not in (Cell, Template, Files) else ""
    lines = [f"### `{cls.__qualname__}`", "", f"`{cls.__module__}.{cls.__qualname__}`", ""]
    if signature:
        lines += [f"`{cls.__name__}{signature}`", ""]
    lines += [text(inspect.getdoc(cls) or ""), ""]
    for name, member in _members(cls):
        if isinstance(member, property):
            lines += [f"#### `{cls.__name__}.{name}`", "", text(inspect.getdoc(member) or ""), ""]
        else:
            lines += [f"#### `{cls.__name__}.{name}{_signature(member)}`", "", text(inspect.getdoc(member) or ""), ""]
    return "\n".join(lines)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties the class itself defines, in the order of the source."""
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", value)
        if not name.startswith("_") and (isinstance(value, property) or inspect.isfunction(function)):
            yield name, value if isinstance(value, property) else function


def _signature(thing: Any) -> str:
    signature = inspect.signature(thing)
    parameters = [
        p if p.default is p.empty else p.replace(default=_Shown(p.default))
        for p in signature.parameters.values()
        if p.name not in ("self", "cls")
    ]
    # Annotations are strings in the source, and are shown in quotes; defaults must keep theirs.
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=parameters)))


class _Shown:
    """A default as it may be shown: functions and objects by name, not by address."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        if isinstance(self.value, type(None) | bool | int | float | str | tuple):
            return repr(self.value)
        return "…"


def text(docstring: str) -> str:
    """A docstring as Markdown: roles to code, sections to bold words, their entries to lists."""
    docstring = _ROLE.sub(r"`\1`", docstring).replace("``", "`")
    lines: list[str] = []
    section = False
    for line in docstring.splitlines():
        if line.strip() in _HEADINGS and not line.startswith(" "):
            section = True
            lines += [_HEADINGS[line.strip()], ""]
        elif section and line.startswith("    ") and not line.startswith("     "):
            lines.append(f"- {line.strip()}")
        else:
            section = section and (line.startswith(" ") or not line)
            lines.append(line.strip() if section else line)
    return "\n".join(line.rstrip() for line in lines)


def _inside() -> Iterator[str]:
    module = prong.guest.usermodule.make_prong_module(ForkState(), lambda *values: None)
    for name in ("on_fork", "generation", "info"):
        function = getattr(module, name)
        signature = str(inspect.signature(function)).replace("'", "")
        yield f"#### `prong.{name}{signature}`\n\n{text(inspect.getdoc(function) or '')}\n"
