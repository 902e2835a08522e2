"""``prong cell``: any program of an image, run in a cell of its own."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from prong.cli import transfer
from prong.cli.completion import image_names
from prong.cli.engines import open_engine
from prong.cli.output import JsonFlag, Output, output_of
from prong.cli.report import EXIT_TIMEOUT, limit_text, report_line, report_refusals
from prong.cli.run import EnvOption, GetOption, PutOption, TimeoutOption
from prong.cli.terminal import EXIT_BROKEN_PIPE, Outlet, forwarded_stdin, interrupts_passed_on
from prong.cli.values import parse_get, parse_put, parse_size, parse_variables
from prong.errors import NotFound

if TYPE_CHECKING:
    from prong.cell.engine import Cell, Engine
    from prong.cell.engine.ending import Ending
    from prong.cell.engine.runs import RunCollector

SEARCH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
GRACE_S = 2.0

cell_app = typer.Typer(
    name="cell",
    help="Cells: one Linux process each, in a virtual machine of its own.",
    epilog="Example: prong cell exec base -- /usr/bin/sha256sum /etc/passwd",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add ``prong cell``."""
    app.add_typer(cell_app)


@cell_app.callback()
def _group() -> None:
    """Cells: one Linux process each, in a virtual machine of its own."""


@cell_app.command("exec", epilog="Example: prong cell exec base --put data.bin:/tmp/ -- sha256sum /tmp/data.bin")
def execute(
    context: typer.Context,
    image: Annotated[
        str, typer.Argument(help="The image whose program it is: a name or digest.", autocompletion=image_names)
    ],
    program: Annotated[list[str], typer.Argument(metavar="-- PROGRAM ARGS", help="Its path or name, and its arguments.")],
    put: PutOption = None,
    get: GetOption = None,
    env: EnvOption = None,
    cwd: Annotated[str, typer.Option("--cwd", help="The directory to start in.")] = "/",
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Most memory.")] = "256M",
    timeout: TimeoutOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a program of an image in a fresh cell; its streams, Ctrl-C and exit status are passed on.

    One that a signal ends has status 128 and the signal's number; one that takes longer than --timeout, 124.
    """
    from prong.cell.engine.booting import Program
    from prong.cell.limits import Limits
    from prong.cli.rawoutput import RawOutput

    output = output_of(context)
    puts, gets = list(map(parse_put, put or ())), list(map(parse_get, get or ()))
    variables, limits = parse_variables(env or ()), Limits(memory=parse_size(memory, "memory"))
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine())
        path = find_program(engine, image, program[0])
        cell = stack.enter_context(engine.program(image, Program((path, *program[1:]), variables, cwd), limits))
        transfer.put(cell, puts)
        collector = RawOutput(Outlet(cell, silent=as_json), keep=as_json)
        ending, timed_out = run_program(cell, collector, timeout)
        if not cell.closed:
            transfer.get(cell, gets)
        status = EXIT_TIMEOUT if timed_out else ending.exit_code
        if as_json or not collector.outlet.broken:
            _tell(output, cell, collector, ending, timeout if timed_out else None, status, as_json=as_json)
    raise typer.Exit(EXIT_BROKEN_PIPE if collector.outlet.broken else status)


def find_program(engine: Engine, image: str, name: str) -> str:
    """The path of a program in an image; a bare name is looked for where a shell would look. Raises NotFound."""
    root = engine.images.get(image).root
    paths = [name] if "/" in name else [f"/{folder}/{name}" for folder in SEARCH]
    for path in paths:
        # lexists: a link's target is a path of the image, not of this host. Relative paths depend on --cwd.
        if not path.startswith("/") or os.path.lexists(root / path.lstrip("/")):
            return path
    raise NotFound(
        f"image {image} has no program {name:.80}",
        hint=f"looked for {', '.join(paths)}"[:400],
        data={"image": image, "program": name[:80]},
    )


def run_program(cell: Cell, collector: RunCollector, timeout: float | None) -> tuple[Ending, bool]:
    """Start the program, connect it to this process and wait. Returns how it ended and whether ``timeout`` ended it."""
    cell.attach_output(collector)
    with interrupts_passed_on(cell), forwarded_stdin(cell):
        cell.start()
        ending = cell.wait_end(timeout)
        if ending is not None:
            return ending, False
        cell.signal(signal.SIGTERM)
        ending = cell.wait_end(GRACE_S)
        if ending is None:
            cell.signal(signal.SIGKILL)
            ending = cell.wait_end()
    assert ending is not None  # wait_end without a timeout returns or raises
    return ending, True


def _tell(
    output: Output,
    cell: Cell,
    collector: RunCollector,
    ending: Ending,
    timeout: float | None,
    status: int,
    *,
    as_json: bool,
) -> None:
    """The document, or the lines on standard error for what the status alone does not say."""
    from prong.cell.results import LimitHit

    limit = collector.limit if timeout is None else LimitHit("wall", timeout)
    if as_json:
        done = collector.execution(None, status).to_json()
        streams = {name: done[name] for name in ("stdout", "stderr", "duration")}
        refused = [item.to_json() for item in cell.refused]
        shown = None if limit is None else limit.to_json()
        document = {**streams, "exit_code": status, "ending": ending.to_json(), "refused": refused, "limit": shown}
        output.document(document)
        return
    if limit is not None:
        report_line(output, f"stopped: {limit_text(limit)}")
    if timeout is None and ending.signal is not None:
        report_line(output, f"ended: {ending.describe()}")
    report_refusals(output, cell.refused)
