"""The ``:commands`` of the repl, as a table: name, arguments, help, and what each does to a session."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prong.cli import transfer
from prong.cli.output import printable
from prong.cli.treeview import draw
from prong.cli.values import Pair, format_size
from prong.errors import InvalidInput

if TYPE_CHECKING:
    from prong.cli.session import Session


class Quit(Exception):
    """The person wants to leave."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is called, what it does, the fewest and most words it takes."""

    usage: str
    help: str
    action: Callable[..., None]
    least: int = 0
    most: int = 0


def perform(line: str, session: Session, console: Console) -> None:
    """Carry out one ``:command`` line.

    Raises:
        InvalidInput: no such command, or not its arguments. Quit: it was ``:quit``. ProngError: it failed.
    """
    try:
        name, *words = shlex.split(line.removeprefix(":").strip()) or ["help"]
    except ValueError as error:
        raise InvalidInput(f"{line!r:.80}: {error}") from None
    command = COMMANDS.get(name)
    if command is None:
        raise InvalidInput(f"there is no command :{name:.40}", hint=":help shows those there are")
    if not command.least <= len(words) <= command.most:
        raise InvalidInput(f"use it so: {command.usage}")
    command.action(session, console, *words)


def _say(console: Console, text: str) -> None:
    console.print(Text(printable(text), style="dim"), soft_wrap=True)


def _fork(session: Session, console: Console, label: str = "") -> None:
    before = session.here.id
    fork = session.fork(label)
    _say(console, f"{before} → {fork.id}: a fork with all its state; :back returns")


def _back(session: Session, console: Console) -> None:
    _say(console, f"in {session.back().id}")


def _switch(session: Session, console: Console, name: str) -> None:
    _say(console, f"in {session.switch(name).id}")


def _tree(session: Session, console: Console) -> None:
    session.mark_ended()
    console.print(draw(session.root, session.here))


def _snapshot(session: Session, console: Console, note: str = "") -> None:
    _say(console, f"snapshot {session.snapshot(note)}")


def _rollback(session: Session, console: Console, snapshot_id: str) -> None:
    _say(console, f"{session.here.id} is back at snapshot {session.rollback(snapshot_id)}")


def _files(session: Session, console: Console, path: str = "/root") -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for entry in session.cell.files.list(path):
        size = format_size(entry.size) if entry.kind == "file" else entry.kind
        table.add_row(Text(f"{entry.mode:04o}"), Text(size, justify="right"), Text(printable(entry.path)))
    if table.row_count:
        console.print(table)
    else:
        _say(console, f"{path} is empty")


def _put(session: Session, console: Console, local: str, inside: str) -> None:
    name = Path(local).name
    target = inside + name if inside.endswith("/") else inside
    transfer.put(session.cell, [Pair(Path(local).expanduser(), target)])
    _say(console, f"{local} → {target}")


def _get(session: Session, console: Console, inside: str, local: str) -> None:
    transfer.get(session.cell, [Pair(Path(local).expanduser(), inside)])
    _say(console, f"{inside} → {local}")


def _stats(session: Session, console: Console) -> None:
    stats = session.cell.stats()
    shown = {name: str(value) for name, value in stats.items()}
    for name in stats:
        if name.startswith(("memory", "overlay", "host_")):
            shown[name] = format_size(stats[name])
    if "cpu_ns" in stats:
        shown["cpu"] = f"{int(shown.pop('cpu_ns')) / 1e9:.3f} s"
    for name, value in shown.items():
        console.print(Text.assemble((f"{name:<12}", "bold"), value))


def _help(session: Session, console: Console) -> None:
    del session
    for command in COMMANDS.values():
        console.print(Text.assemble((f"{command.usage:<20}", "bold"), command.help))
    _say(console, "Everything else is Python, and runs in the cell. Ctrl-C interrupts it, and keeps its state.")


def _quit(session: Session, console: Console) -> None:
    del session, console
    raise Quit


COMMANDS: dict[str, Command] = {
    "fork": Command(":fork [NAME]", "fork this cell, with all its state, and go to the fork", _fork, 0, 1),
    "back": Command(":back", "go to the cell this one was forked from", _back),
    "switch": Command(":switch ID", "go to any cell, by its id or the name it was given", _switch, 1, 1),
    "tree": Command(":tree", "show the cells and snapshots, and which came from which", _tree),
    "snapshot": Command(":snapshot [NOTE]", "save this cell on disk; it goes on", _snapshot, 0, 1),
    "rollback": Command(":rollback ID", "put this cell back to a snapshot", _rollback, 1, 1),
    "files": Command(":files [PATH]", "list a directory of the cell (/root)", _files, 0, 1),
    "put": Command(":put LOCAL PATH", "copy a file into the cell", _put, 2, 2),
    "get": Command(":get PATH LOCAL", "copy a file out of the cell", _get, 2, 2),
    "stats": Command(":stats", "what the cell has used", _stats),
    "help": Command(":help", "this list", _help),
    "quit": Command(":quit", "leave, and end all cells; Ctrl-D does the same", _quit),
}
