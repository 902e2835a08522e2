"""Cells from the outside: templates, forks, running code, files, snapshots. This is the small Python API of the engine.

Words
-----
Engine      everything of one prong home: images, templates, snapshots, and the spawners that serve them.
Template    a warmed snapshot with a name, and a pool of cells forked from it ahead of demand.
Cell        a running sandbox: run code, fork, snapshot, files, interrupt, close.
Connection  the control connection to one cell host; everything that arrives on it is checked.
Execution   what one piece of code did: output, results, error, exit code, limits hit.

    from prong.cell.engine import Engine

    with Engine() as engine, engine.template().fork() as cell:
        print(cell.run("6 * 7").text)

Start reading at ``engine.py``, then ``cell.py``.
"""

from __future__ import annotations

from prong.cell.engine.cell import Cell
from prong.cell.engine.engine import Engine
from prong.cell.engine.template import Template

__all__ = ["Cell", "Engine", "Template"]
