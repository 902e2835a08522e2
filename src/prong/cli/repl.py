"""``prong repl``: talk to Python in a cell, fork it, go back, and see the tree."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from prong.cli.engines import load_template, open_engine
from prong.cli.lineedit import at_terminal, editing, read_code
from prong.cli.output import JsonFlag, Output, output_of, printable
from prong.cli.replcommands import Quit, perform
from prong.cli.report import report_run
from prong.cli.results import ResultView
from prong.cli.run import SnapshotOption, TemplateOption
from prong.cli.session import Session
from prong.cli.terminal import Outlet, forwarded_stdin, interrupts_passed_on
from prong.cli.treeview import Node
from prong.errors import ProngError

if TYPE_CHECKING:
    from prong.cell.engine import Engine
    from prong.cell.results import Execution
    from prong.errors import Json

HISTORY = "repl-history"
LEAVING = frozenset({"exit", "quit", "exit()", "quit()"})


def register(app: typer.Typer) -> None:
    """Add ``prong repl``."""
    app.command("repl", epilog="Example: prong repl   then: :help")(repl)


def repl(
    context: typer.Context,
    template: TemplateOption = "python",
    snapshot: SnapshotOption = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Where pictures are saved; default: a new directory.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Talk to Python in a cell; :fork it, :back up, :snapshot, :rollback, and see the :tree.

    Reads lines from a pipe as well. With --json, what each input did is printed as one document at the end.
    """
    output = output_of(context)
    interactive = at_terminal() and not as_json
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine())
        session = _session(engine, template, snapshot, output)
        stack.callback(session.close)
        talk = Repl(session, output, ResultView(pictures), interactive)
        if interactive:
            stack.enter_context(editing(engine.paths.home / HISTORY, lambda: session.cell))
            output.console.print(Text(f"Python in cell {session.cell.id}, a fork of {session.root.id}. :help", style="dim"))
        talk.loop()
        if as_json:
            session.mark_ended()
            output.document({"inputs": talk.log, "tree": session.root.to_json()})


def _session(engine: Engine, template: str, snapshot: str | None, output: Output) -> Session:
    if snapshot is None:
        return Session(engine, load_template(engine, template, output).fork(), Node(template, "template"))
    found = engine.snapshots.get(snapshot)
    return Session(engine, engine.restore(found), Node(found.id, "snapshot"))


@dataclass
class Repl:
    """Reads, runs, prints, until there is no more. ``log`` has what each input did, for --json;
    ``told`` the refusals that were shown."""

    session: Session
    output: Output
    view: ResultView
    interactive: bool
    log: list[Json] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def loop(self) -> None:
        """Until the end of input, ``:quit`` or ``exit()``. Errors of one input are shown; the next is read."""
        while True:
            try:
                code = read_code(f"{self.session.here.id} >>> ", interactive=self.interactive)
                if code in LEAVING:
                    return
                self._one(code)
            except KeyboardInterrupt:
                self._console.print()
            except (EOFError, Quit):
                if self.interactive:
                    self._console.print()
                return
            except ProngError as error:
                self.log.append({"error": error.as_json()})
                if not self.output.json:
                    self.output.error(error)

    @property
    def _console(self) -> Console:
        """Where commands and results are printed; nowhere under --json."""
        return Console(highlight=False, quiet=self.output.json)

    def _one(self, code: str) -> None:
        if code.startswith(":"):
            perform(code, self.session, self._console)
            self.log.append({"command": code, "cell": self.session.here.id})
        elif code.strip():
            here = self.session.here.id
            execution = self._run(code)
            self._show(execution)
            self.log.append({"code": code, "cell": here, **execution.to_json()})

    def _run(self, code: str) -> Execution:
        """Run Python; a terminal's input goes to it meanwhile. From a pipe it has none: that holds the next lines."""
        cell = self.session.cell
        outlet = Outlet(cell, silent=self.output.json)
        console = self._console
        with interrupts_passed_on(cell), forwarded_stdin(cell) if self.interactive else nullcontext():
            return cell.run(
                code,
                stdin=None if self.interactive else b"",
                on_stdout=outlet.stdout,
                on_stderr=outlet.stderr,
                on_result=lambda result: self.view.show(result, console),
            )

    def _show(self, execution: Execution) -> None:
        """What the streams did not: the traceback, limits, refusals, the end of the program."""
        if execution.error is not None and not self.output.json:
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(Text(printable(execution.error.formatted.rstrip("\n")), style="red"))
        report_run(self.output, self.session.cell, execution, self.told)
        if execution.ended is not None and not self.output.json:
            advice = f"{self.session.here.id} has ended: :back, :switch ID or :rollback ID goes on elsewhere"
            self._console.print(Text(advice, style="yellow"))
