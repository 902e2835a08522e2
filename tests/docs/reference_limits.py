"""docs/reference/limits.md: the limits of a cell and of a call, and the fixed bounds, with their values from the source."""

from __future__ import annotations

import importlib
from dataclasses import MISSING, fields

from prong.cell.engine.runs import RunOptions
from prong.cell.limits import MIB, Limits
from prong.cell.memory.layout import STACK_SIZE
from prong.cli.report import LIMIT_STATUS

INTRODUCTION = """\
# Limits

[How to set and read them](../how-to/limits.md).
"""
MEANINGS = {
    "memory": "physical memory the program is given, page tables included; fixed when the template is made",
    "overlay": "bytes of files written, with an allowance for each file's metadata",
    "output": "bytes of stdout and stderr together per call; rich results may be as much again",
    "wall": "seconds of wall time per call",
    "cpu": "seconds of CPU time per call",
    "threads": "live threads",
    "files": "open descriptors",
}
REPORTS = {
    "memory": "`MemoryError` (ENOMEM) where a call can fail; else the program is ended",
    "overlay": "`OSError` (ENOSPC)",
    "output": "interrupted; what goes beyond is dropped",
    "wall": "interrupted (`KeyboardInterrupt`), killed a second later if it goes on",
    "cpu": "interrupted (`KeyboardInterrupt`), killed a second later if it goes on",
    "threads": "`RuntimeError` (EAGAIN)",
    "files": "`OSError` (EMFILE)",
}
BOUNDS: tuple[tuple[str, str, str], ...] = (
    ("prong.cell.memory.vma", "MAX_MAPPINGS", "mappings of a program; then `mmap` gives ENOMEM"),
    ("prong.cell.ipc.socket", "MAX_BUFFER", "bytes in one socket's buffer"),
    ("prong.cell.ipc.net", "MAX_HELD", "bytes in all sockets of a cell"),
    ("prong.cell.ipc.net", "MAX_PIPE_PAGES", "pages in all pipes of a cell"),
    ("prong.cell.fs.inotify", "MAX_WATCHES", "inotify watches of a cell"),
    ("prong.cell.program.start", "MAX_ARGS", "bytes of arguments and environment of a program"),
    ("prong.cell.host.requests", "MAX_READ", "bytes of a file read from outside in one request (longer reads take several)"),
    ("prong.cell.host.wire", "MAX_FRAME", "bytes of one message of the control protocol"),
    ("prong.guest.messages", "MAX_FRAME", "bytes of one message of the Python runtime"),
    ("prong.guest.messages", "MAX_BUNDLE", "bytes of one rich result in all its forms"),
    ("prong.cell.state.layout", "MAX_NODES", "objects in a saved state (a count)"),
    ("prong.cell.state.layout", "MAX_GRAPH", "bytes of a saved state without file contents"),
    ("prong.store.manifest", "MAX_MANIFEST", "bytes of a snapshot's manifest"),
)


def limits_page() -> str:
    """The page."""
    return "\n".join((INTRODUCTION, _cell(), _call(), _statuses(), _fixed()))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and value >= MIB and value % MIB == 0:
        return f"{value // MIB} MiB"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell() -> str:
    lines = ["## Of a cell", "", "`prong.cell.limits.Limits`; `Execution.limit.name` is the name here.", ""]
    lines += ["| name | what is counted | default | when it is hit |", "|---|---|---|---|"]
    for field in fields(Limits):
        lines.append(f"| `{field.name}` | {MEANINGS[field.name]} | {_shown(field.default)} | {REPORTS[field.name]} |")
    return "\n".join(lines) + "\n"


def _call() -> str:
    given = {field.name: field.default for field in fields(RunOptions) if field.default is not MISSING}
    lines = ["## Of a call", "", "Options of `Cell.run`, which is what `prong run` passes on:", ""]
    lines += ["| option | limit | default | on the command line |", "|---|---|---|---|"]
    flags = (("timeout", "wall", "--timeout"), ("cpu", "cpu", "--cpu"), ("output", "output", "--output-limit"))
    for option, name, flag in flags:
        lines.append(f"| `{option}` | `{name}` | {_shown(given[option])} | `{flag}` |")
    return "\n".join(lines) + "\n"


def _statuses() -> str:
    lines = ["## Exit statuses of `prong run`", "", "| limit | status |", "|---|---|"]
    lines += [f"| `{name}` | {int(status)} |" for name, status in LIMIT_STATUS.items()]
    lines += ["| any other | the program's own |"]
    return "\n".join(lines) + "\n"


def _fixed() -> str:
    lines = ["## Fixed bounds", "", "| bound | value | where |", "|---|---|---|"]
    lines.append(f"| stack of the main thread | {_shown(STACK_SIZE)} | `prong.cell.memory.layout.STACK_SIZE` |")
    for module, name, meaning in BOUNDS:
        value = getattr(importlib.import_module(module), name)
        told = f"{value:,}" if meaning.endswith("(a count)") else _shown(value)
        lines.append(f"| {meaning} | {told} | `{module}.{name}` |")
    return "\n".join(lines) + "\n"
