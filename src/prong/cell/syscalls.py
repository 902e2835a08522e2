"""Import every module of the kernel layer: the system-call table is complete then, and nothing is imported later.

A cell host cannot import anything once its jail is closed, so what a handler imports at its first use must be here before.
"""

from __future__ import annotations

import importlib
import pkgutil

from prong.cell import fs, ipc, memory, program, task

for _package in (memory, fs, ipc, task, program):
    for _module in pkgutil.walk_packages(_package.__path__, _package.__name__ + "."):
        importlib.import_module(_module.name)
