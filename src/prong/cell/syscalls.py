"""Import every module that registers system-call handlers, so that the table is complete."""

from __future__ import annotations

import importlib

_TOPICS = (
    "prong.cell.memory.calls",
    "prong.cell.fs.calls",
    "prong.cell.ipc.calls",
    "prong.cell.task.calls",
)
for _name in _TOPICS:
    importlib.import_module(_name)
