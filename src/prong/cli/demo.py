"""``prong demo``: what prong does, shown on this machine; every number is measured then and there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from prong.cli.engines import load_template, open_engine
from prong.cli.output import JsonFlag, Output, output_of, printable
from prong.cli.treeview import draw
from prong.errors import HostUnfit

if TYPE_CHECKING:
    from prong.cli.demosteps import Demo, Facts, Timing


def register(app: typer.Typer) -> None:
    """Add ``prong demo``."""
    app.command("demo", epilog="Example: prong demo")(demo)


def demo(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Fork cells, run code in them, fork one while it runs, go back in time; with timings and the fork tree.

    The first run builds the default image and template, which takes a few minutes; after that, under a minute.
    """
    from prong.cli.demosteps import Demo

    output = output_of(context)
    _require_kvm()
    with open_engine() as engine:
        started = time.perf_counter()
        show = Show(output)
        template = load_template(engine, "python", output)
        loading = time.perf_counter() - started
        steps = Demo(engine, template)
        steps.facts.time("demo.load", "load the template, jail included (once)", [loading])
        try:
            play(steps, show)
        finally:
            steps.close()
        seconds = time.perf_counter() - started
        if as_json:
            output.document({**steps.facts.to_json(), "seconds": round(seconds, 2)})
        else:
            show.summary(steps.facts, seconds)


def _require_kvm() -> None:
    """Before minutes of building: can cells run here at all?"""
    from prong.kvm.probe import kvm_verdict

    verdict = kvm_verdict()
    if not verdict.usable:
        raise HostUnfit(f"cells cannot run here: {verdict.reason}", hint=verdict.hint)


class Show:
    """Prints the demo's steps as they happen; silent under --json."""

    def __init__(self, output: Output) -> None:
        self._console = output.console
        self._console.quiet = output.json

    def title(self, text: str) -> None:
        """Say what comes next."""
        self._console.print(Text(f"\n▸ {text}", style="bold"))

    def line(self, text: str, style: str = "") -> None:
        """One line of what happened; text out of a cell is made harmless."""
        self._console.print(Text(f"  {printable(text)}", style=style))

    def timing(self, timing: Timing) -> None:
        """One measurement."""
        count = f"p50 of {len(timing.samples)}" if len(timing.samples) > 1 else "once"
        self.line(f"{timing.what}: {timing.p50:.2f} ms ({count})", "green")

    def summary(self, facts: Facts, seconds: float) -> None:
        """The fork tree and the table of timings."""
        self.title("the fork tree")
        self._console.print(draw(facts.root))
        self.title("timings, measured now on this machine")
        table = Table("what", "n", "p50 ms", "max ms", box=None, pad_edge=False, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for timing in facts.timings:
            table.add_row(timing.what, str(len(timing.samples)), f"{timing.p50:.2f}", f"{timing.worst:.2f}")
        self._console.print(table)
        self._console.print(Text(f"\ndone in {seconds:.1f} s. Next: prong repl", style="dim"))


def play(steps: Demo, show: Show) -> None:
    """All steps, in order."""
    show.title("run code in a fork of the template: Python and numpy, in a virtual machine without a guest kernel")
    show.line(steps.run_numpy().strip())
    show.title("fork it again and again")
    show.timing(steps.time_forks())
    show.timing(steps.time_output())
    show.timing(steps.time_pool())
    show.title("fork one cell in the middle of a loop; all of them go on, each its own way")
    for name, line in zip(("the original", *("a fork",) * 99), steps.branch(), strict=False):
        show.line(f"{name:<12} {line}")
    show.timing(steps.facts.timings[-1])
    show.title("snapshot, damage, rollback")
    for what, line in zip(("damaged", "rolled back"), steps.roll_back(), strict=True):
        show.line(f"{what:<12} {line}")
    show.title("what a cell refuses by design, it says")
    printed, advice = steps.refuse()
    show.line(printed)
    show.line(advice, "dim")
