"""``prong doctor``: what this host can run, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from prong.cli.output import EXIT_ERROR, JsonFlag, Output, output_of

if TYPE_CHECKING:
    from prong.doctor import Report

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add ``prong doctor``."""
    app.command("doctor", epilog="Example: prong doctor --json | jq .cells")(doctor)


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Say what this host can run, and what to do about the rest.

    Looks at the processor, KVM (by running a guest), namespaces, limits, disk and the programs prong uses. Ends with
    status 0 if cells can run here, else 1.
    """
    from prong.doctor import examine

    output = output_of(context)
    with output.progress.status("looking at this host"):
        report = examine()
    if as_json:
        output.document(report.as_json())
    else:
        _show(report, output)
    raise typer.Exit(0 if report.cells else EXIT_ERROR)


def _show(report: Report, output: Output) -> None:
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        line = Text.assemble((f"{check.status:<4}", _STYLES[check.status]), f"  {check.name:<{width}}  {check.found}")
        if check.advice:
            line.append(f"\n{'':<{width + 6}}  → {check.advice}", style="dim")
        output.console.print(line)
    verdict = "cells can run here" if report.cells else "cells cannot run here: see the lines marked fail"
    output.console.print(Text(verdict, style="green" if report.cells else "bold red"))
