"""``prong run``: run code in a fork of a template, as if it ran here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prong.cli import transfer
from prong.cli.completion import snapshot_ids, template_names
from prong.cli.engines import load_template, open_engine
from prong.cli.output import JsonFlag, Output, output_of
from prong.cli.report import exit_status, report_run
from prong.cli.results import ResultView
from prong.cli.terminal import EXIT_BROKEN_PIPE, Outlet, forwarded_stdin, interrupts_passed_on
from prong.cli.values import Pair, format_size, parse_get, parse_put, parse_size, parse_variables
from prong.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from prong.cell.engine import Cell, Engine
    from prong.cell.results import Execution, Result

HOME = "/root"
"""Where a program file is put in the cell, and where it runs."""
STDIN = "-"
DEFAULT_OUTPUT = "16M"

EnvOption = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="An environment variable.")]
PutOption = Annotated[list[str] | None, typer.Option("--put", metavar="LOCAL:/PATH", help="Copy a file in first.")]
GetOption = Annotated[
    list[str] | None, typer.Option("--get", metavar="/PATH:LOCAL", help="Copy a file out afterwards, whatever the end.")
]
TimeoutOption = Annotated[float | None, typer.Option("--timeout", min=0.001, metavar="S", help="Most seconds it may take.")]


TemplateOption = Annotated[
    str, typer.Option("--template", "-t", help="The template to fork.", autocompletion=template_names)
]
SnapshotOption = Annotated[
    str | None,
    typer.Option("--from-snapshot", metavar="ID", help="Fork this snapshot, not a template.", autocompletion=snapshot_ids),
]


def register(app: typer.Typer) -> None:
    """Add ``prong run``."""
    app.command("run", epilog="Example: prong run 'print(6 * 7)'   or: prong run job.py --timeout 10 -- --fast x.csv")(run)


@dataclass(frozen=True, slots=True)
class Source:
    """What to run: ``code``, or the file at ``path``; ``argv`` is what it finds in ``sys.argv``."""

    code: str | None
    path: Path | None
    argv: tuple[str, ...]

    @property
    def reads_stdin(self) -> bool:
        """Whether standard input is left for the program."""
        return self.argv[0] != STDIN


def run(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="CODE|FILE|-", help="Python code, a file, or - for standard input.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="What follows -- is the program's sys.argv[1:].")] = None,
    template: TemplateOption = "python",
    snapshot: SnapshotOption = None,
    timeout: TimeoutOption = None,
    cpu: Annotated[float | None, typer.Option("--cpu", min=0.001, metavar="S", help="Most seconds of CPU time.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory; that of the template.")] = None,
    output_limit: Annotated[
        str, typer.Option("--output-limit", metavar="SIZE", help="Most output, stdout and stderr together.")
    ] = DEFAULT_OUTPUT,
    env: EnvOption = None,
    put: PutOption = None,
    get: GetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run Python code in a new cell, forked from a template, and pass on its output and exit status.

    Standard input and Ctrl-C reach the program. A limit that is hit is named, and is the exit status: 124 for --timeout,
    152 for --cpu, 153 for --output-limit. A program that a signal kills ends with 128 and the signal's number.
    """
    output = output_of(context)
    what = find_source(source, tuple(arguments or ()))
    puts = [*map(parse_put, put or ()), *_program_file(what)]
    gets = list(map(parse_get, get or ()))
    fields = {
        "env": parse_variables(env or ()),
        "timeout": timeout,
        "cpu": cpu,
        "output": parse_size(output_limit, "output-limit"),
    }
    wanted = None if memory is None else parse_size(memory, "memory")
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine())
        cell = stack.enter_context(_cell(engine, template, snapshot, wanted, output))
        transfer.put(cell, puts)
        outlet = Outlet(cell, silent=as_json)
        execution = execute(cell, what, outlet, silent=as_json, **fields)
        if not cell.closed:
            transfer.get(cell, gets)
        if as_json:
            output.document(execution.to_json())
        if not outlet.broken:
            report_run(output, cell, execution)
    raise typer.Exit(EXIT_BROKEN_PIPE if outlet.broken else exit_status(execution))


def find_source(word: str, arguments: tuple[str, ...]) -> Source:
    """Tell code from a file: ``-`` is standard input, the name of a file that exists is that file, all else is code.

    Raises:
        NotFound: the word looks like the name of a Python file, and there is none.
    """
    if word == STDIN:
        return Source(sys.stdin.read(), None, (STDIN, *arguments))
    if "\n" not in word and "\0" not in word and len(word) < 4096:
        path = Path(word)
        if path.is_file():
            return Source(None, path, (path.name, *arguments))
        if path.suffix == ".py" and len(word.split()) == 1:
            raise NotFound(
                f"there is no file {word}",
                hint="give an existing file, or Python code as one argument",
                data={"path": word},
            )
    return Source(word, None, ("-c", *arguments))


def _program_file(what: Source) -> list[Pair]:
    return [] if what.path is None else [Pair(what.path, f"{HOME}/{what.path.name}")]


def _cell(engine: Engine, template: str, snapshot: str | None, memory: int | None, output: Output) -> Cell:
    """The cell to run in. Raises InvalidInput when ``memory`` (bytes) is not what it has."""
    if snapshot is not None:
        found = engine.snapshots.get(snapshot)
        has = found.manifest.limits.get("memory")
        _require_memory(memory, None if has is None else int(has), f"snapshot {found.id}")
        return engine.restore(found)
    loaded = load_template(engine, template, output)
    _require_memory(memory, engine.templates.get(template).manifest.memory, f"template {template}")
    return loaded.fork()


def _require_memory(wanted: int | None, has: int | None, owner: str) -> None:
    if wanted is None or has is None or wanted == has:
        return
    raise InvalidInput(
        f"{owner} has {format_size(has)} of memory, and so has every fork of it; {format_size(wanted)} was asked for",
        hint=f"make a template of that size: prong template create NAME --memory {format_size(wanted)}",
        data={"field": "memory", "has": has, "asked": wanted},
    )


def execute(cell: Cell, what: Source, outlet: Outlet, *, silent: bool, **fields: Any) -> Execution:
    """Run ``what`` in ``cell`` with this process's stdin, stdout, stderr and Ctrl-C connected to it."""
    from prong.cell.engine.runs import RunOptions

    options = RunOptions(
        mode="script" if what.path is None else "file",
        filename=None if what.path is None else what.path.name,
        argv=what.argv,
        cwd=HOME,
        stdin=None if what.reads_stdin else b"",
        on_stdout=outlet.stdout,
        on_stderr=outlet.stderr,
        on_result=_result_shower(silent),
        **fields,
    )
    with interrupts_passed_on(cell), forwarded_stdin(cell) if what.reads_stdin else nullcontext():
        return cell.run(what.code, options)


def _result_shower(silent: bool) -> Callable[[Result], None] | None:
    """What to do with a displayed result: show it, unless everything is wanted as one document."""
    if silent:
        return None
    view = ResultView()
    return lambda result: view.show(result, Console(highlight=False))
