"""Finding the pages a first run touches, and having a template's pages rearranged before its snapshot is written."""

from __future__ import annotations

from prong.cell.engine.cell import Cell
from prong.cell.engine.hosted import Hosted

FIRST_RUN = "print(1 + 1)"


def touched_pages(fork: Cell) -> tuple[list[int], list[int]]:
    """Run something in a fork that has not been started; returns the page numbers it wrote, and those it only read."""
    fork.request("watch")
    fork.owe_fork()
    fork.start()
    fork.run(FIRST_RUN)
    written, read = fork.request("touched")
    return [int(p) for p in written], [int(p) for p in read]


def gather_pages(program: Hosted, written: list[int], read: list[int]) -> None:
    """Have these pages lie side by side in physical memory, for forks of the snapshot that is written next."""
    program.request("gather", written, read)
