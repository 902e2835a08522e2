"""``scripts/conformance``: run the suite, show how far it is, judge the result."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from prong.conformance import table
from prong.conformance.cases import ModuleResult, Totals
from prong.conformance.slow import SLOW
from prong.conformance.suite import Rules, Run, find_modules, prepare
from prong.errors import InvalidInput, ProngError
from prong.image.events import BuildEvent, Stage
from prong.store.paths import Paths

DOCS = Path(__file__).parents[3] / "docs" / "cells.md"


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/conformance",
        description="Run CPython's regression suite inside cells and judge the kernel layer by it.",
        epilog="Example: scripts/conformance --modules test_os,test_socket. "
        "Exit status: 0 if at least 98 percent of the counted cases pass and nothing hung or crashed.",
    )
    rules = Rules()
    parser.add_argument("--modules", help="only these, separated by commas")
    parser.add_argument("--fast", action="store_true", help=f"without the {len(SLOW)} slowest modules")
    parser.add_argument("--jobs", type=int, default=rules.jobs, help="cells at a time (default %(default)s)")
    parser.add_argument("--case-timeout", type=float, default=rules.silence, metavar="S", help="default %(default)s")
    parser.add_argument("--module-timeout", type=float, default=rules.wall, metavar="S", help="default %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write every case to FILE, as JSON")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="source", help="run nothing, take what --output wrote")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/cells.md")
    parser.add_argument("--json", action="store_true", help="print one JSON document: totals, and every module")
    return parser.parse_args(words)


def choose(options: argparse.Namespace, paths: Paths) -> list[str]:
    """The modules to run. Raises InvalidInput for a name the suite does not have."""
    everything = find_modules(paths)
    wanted: list[str] = everything
    if options.modules:
        wanted = [name.strip() for name in options.modules.split(",") if name.strip()]
        unknown = sorted(set(wanted) - set(everything))
        if unknown:
            raise InvalidInput(f"the suite has no module {', '.join(unknown)}", data={"field": "modules"})
    elif options.fast:
        wanted = [name for name in everything if name not in SLOW]
    return wanted


def run(options: argparse.Namespace, console: Console) -> list[ModuleResult]:
    """Prepare, run, and show progress on ``console``."""
    paths = Paths.resolve().ensure()

    def image_step(event: BuildEvent) -> None:
        if event.stage is not Stage.DONE:
            console.print(f"image: {event.stage.value}: {event.message}", markup=False)

    with console.status("preparing the template"):
        prepare(paths, step=lambda step: console.print(f"template: {step}"), images=image_step)
    modules = choose(options, paths)
    rules = Rules(options.jobs, options.case_timeout, options.module_timeout)
    began = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    results: list[ModuleResult] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(modules))
        for result in (runs := Run(paths, modules, rules)):
            results.append(result)
            progress.update(task, advance=1, description=" ".join(runs.running)[:60])
            if not console.is_terminal or result.failures or result.broken or result.trouble:
                progress.console.print(_line(result), markup=False)
            if options.output:
                keep(results, time.monotonic() - began, options.output)
    return results


def keep(results: list[ModuleResult], seconds: float, path: Path) -> None:
    """Write everything there is so far."""
    document = {"seconds": round(seconds, 1), "modules": [result.to_json() for result in results]}
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def kept(path: Path) -> tuple[list[ModuleResult], float]:
    """What :func:`keep` wrote: results, and the seconds they took. Raises InvalidInput."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [ModuleResult.from_json(raw) for raw in document["modules"]], float(document["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InvalidInput(f"{path} is not what --output writes: {e}", data={"path": str(path)}) from None


def _line(result: ModuleResult) -> str:
    name, *numbers, why = table.row(result)
    passed, failed, refused, skipped = numbers
    counts = f"{passed:>5} passed {failed:>4} failed {refused:>4} refused {skipped:>4} skipped {result.seconds:6.1f} s"
    return f"{name:28} {counts}  {why}"


def show(results: list[ModuleResult], console: Console) -> None:
    """The table of what did not pass, and the totals."""
    shown = Table("module", "case", "outcome", "why", box=None, pad_edge=False, header_style="bold")
    for result in results:
        for case in result.failures:
            why = case.detail.strip().splitlines() or [""]
            shown.add_row(Text(result.name), Text(case.id[-70:]), Text(case.outcome), Text(why[-1][:100]))
    if shown.row_count:
        console.print(shown)
    console.print(table.summary(Totals.of(results)), markup=False)


def about(seconds: float, options: argparse.Namespace) -> str:
    """How the table was made."""
    scope = "all but the slowest modules" if options.fast else options.modules or "every module"
    return f"Made by `scripts/conformance` from {scope} of Debian's `libpython3.11-testsuite` in {seconds / 60:.0f} minutes."


def main(words: list[str] | None = None) -> int:
    """Do it; returns the exit status."""
    options = arguments(words)
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=options.json)
    began = time.monotonic()
    try:
        if options.source:
            results, seconds = kept(options.source)
        else:
            results = run(options, console)
            seconds = time.monotonic() - began
        totals = Totals.of(results)
        if options.write_docs:
            table.write_docs(DOCS, table.markdown(results, about(seconds, options)))
    except ProngError as error:
        console.print(Text(f"error [{error.code}]: {error.message}\n{error.hint or ''}{error.data.get('log', '')}"))
        return 2 if isinstance(error, InvalidInput) else 1
    if options.json:
        modules = [result.to_json() for result in results]
        json.dump({"totals": totals.to_json(), "modules": modules}, sys.stdout, indent=1)
    else:
        show(results, Console(highlight=False, soft_wrap=True))
    return 0 if totals.good else 1


if __name__ == "__main__":
    sys.exit(main())
