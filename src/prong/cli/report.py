"""How a run ended, for people and for the exit status: limits, signals, refusals."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from prong.cli.output import Output, printable
from prong.cli.values import format_size

if TYPE_CHECKING:
    from prong.cell.engine import Cell
    from prong.cell.results import Execution, LimitHit, Refused

EXIT_TIMEOUT = 124
"""As timeout(1)."""
LIMIT_STATUS = {
    "wall": EXIT_TIMEOUT,
    "cpu": 128 + signal.SIGXCPU,
    "output": 128 + signal.SIGXFSZ,
}
"""Limit → exit status: those of the signals setrlimit(2) has for the same; other limits leave the program's own."""


def exit_status(execution: Execution) -> int:
    """The status a run is passed on with: that of the limit it hit, else its own."""
    if execution.limit is not None:
        return LIMIT_STATUS.get(execution.limit.name, execution.exit_code)
    return execution.exit_code


def report_run(output: Output, cell: Cell, execution: Execution, told: set[str] | None = None) -> None:
    """On standard error, what the program itself did not say: a limit, a violent end, refusals. Nothing under --json.

    Args:
        told: refusals that were shown before, and are not shown again; new ones are added.
    """
    if execution.limit is not None:
        report_line(output, f"stopped: {limit_text(execution.limit)}")
    if execution.ended is not None and (cell.ended is None or cell.ended.signal is not None):
        report_line(output, f"ended: {execution.ended}")
    report_refusals(output, execution.refused, told)


def report_refusals(output: Output, refused: Iterable[Refused], told: set[str] | None = None) -> None:
    """One dim line for each call that was refused by design, with what to use instead; ``told`` as above."""
    told = set() if told is None else told
    for item in refused:
        line = f"refused: {item.call}{f' ({item.detail})' if item.detail else ''}: {item.advice}"
        if line not in told:
            told.add(line)
            output.progress.print(Text(printable(line), style="dim"), soft_wrap=True)


def limit_text(limit: LimitHit) -> str:
    """``wall limit of 2 s reached``, in the limit's own unit."""
    if limit.name in ("wall", "cpu"):
        allowed = f"{limit.allowed:g} s"
    elif limit.name in ("output", "memory", "overlay"):
        allowed = format_size(int(limit.allowed))
    else:
        allowed = f"{limit.allowed:g}"
    return f"{limit.name} limit of {allowed} reached"


def report_line(output: Output, text: str) -> None:
    """One red line on standard error; nothing under --json."""
    output.progress.print(Text(printable(text), style="bold red"), soft_wrap=True)
