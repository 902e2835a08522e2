"""``prong bench``: measure, and print a table or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prong.cli.output import JsonFlag, output_of
from prong.errors import Json

if TYPE_CHECKING:
    from prong.bench.rows import Row


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    ctx: typer.Context,
    only: Annotated[list[str] | None, typer.Option("--only", help="Rows that begin with this; may be given again.")] = None,
    scale: Annotated[float, typer.Option("--scale", min=0.05, max=10, help="Measure so much more or less often.")] = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure how fast prong is on this machine, beside a bare fork and bwrap.

    Example: prong bench --only cell.fork --json
    """
    import prong.bench.cells
    import prong.bench.native  # noqa: F401  (both register their probes; imported here so that --help stays quick)
    from prong.bench.machine import machine
    from prong.bench.rows import chosen
    from prong.cell.engine import Engine

    output = output_of(ctx)
    rows: list[Row] = []
    probes = chosen(tuple(only or ()))
    with Engine() as engine:
        with output.progress.status("preparing the template"):
            engine.template()
        for probe in probes:
            with output.progress.status(f"measuring {', '.join(probe.ids)}"):
                rows += probe.run(engine, scale)
    if only:
        rows = [row for row in rows if any(row.id.startswith(prefix) for prefix in only)]
    facts = machine()
    if output.json:
        listed: list[Json] = [row.as_json() for row in rows]
        output.document({"machine": facts, "rows": listed})
        return
    output.console.print(f"[bold]{facts['cpu']}[/], {facts['cores']} cores, Linux {facts['kernel']}, load {facts['load']}")
    output.console.print(_table(rows))


def _table(rows: list[Row]) -> Table:
    table = Table("row", "n", "p50", "p99", "bar", "", "what", header_style="bold")
    for row in rows:
        first = f"{row.p50:.3f} ms" if row.p50 is not None else f"{row.value:.2f} {row.unit}"
        second = f"{row.p99:.3f} ms" if row.p99 is not None else ""
        mark = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[row.reached]
        bar = "" if row.bar is None else f"{'≥' if row.higher_is_better else '≤'} {row.bar:g}"
        table.add_row(row.id, str(row.n), first, second, bar, mark, f"[dim]{row.note}[/]")
    return table
