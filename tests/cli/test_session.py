"""The repl's session and its commands, on a fake engine: the tree, the place in it, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from prong.cli.lineedit import Completeness, Completer
from prong.cli.replcommands import COMMANDS, Quit, perform
from prong.cli.session import Session
from prong.cli.treeview import Node, draw
from prong.errors import Conflict, InvalidInput, NotFound, ProngError
from tests.cli.fakes import FakeCell, FakeEngine


class World:
    """A session on fakes, and what its commands print."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.first = FakeCell()
        self.session = Session(cast(Any, self.engine), cast(Any, self.first), Node("python", "template"))

    @property
    def here(self) -> FakeCell:
        return cast(FakeCell, self.session.cell)

    def do(self, line: str) -> str:
        """Perform one command; what it printed."""
        out = io.StringIO()
        perform(line, self.session, Console(file=out, width=200))
        return out.getvalue()


@pytest.fixture
def world() -> World:
    return World()


def test_forks_make_a_tree_and_back_walks_up_it(world: World) -> None:
    world.here.state = 5
    world.do(":fork left")
    left = world.here
    assert left is not world.first and left.state == 5
    world.do(":fork")
    world.do(":back")
    assert world.here is left
    world.do(":back")
    assert world.here is world.first
    shown = world.do(":tree")
    assert shown.splitlines()[0] == "template python"
    assert f"└── {world.first.id}  ← you are here" in shown and f"    └── {left.id} left" in shown
    with pytest.raises(Conflict):
        world.do(":back")


def test_switch_by_id_and_by_name(world: World) -> None:
    world.do(":fork left")
    left = world.here
    world.do(f":switch {world.first.id}")
    assert world.here is world.first
    world.do(":switch left")
    assert world.here is left
    for name in ("nobody", "python"):
        with pytest.raises(NotFound):
            world.do(f":switch {name}")
    assert world.here is left


def test_rollback_replaces_the_cell_and_keeps_its_place(world: World) -> None:
    world.here.state = 1
    assert "snap0" in world.do(':snapshot "before it"')
    world.here.state = 2
    old = world.here
    world.do(":rollback snap")
    assert old.closed and world.here is not old and world.here.state == 1 and world.here.id == old.id
    assert "snapshot snap0 before it" in world.do(":tree")
    with pytest.raises(NotFound):
        world.do(":rollback other")


def test_ended_cells_are_marked(world: World) -> None:
    world.do(":fork")
    world.first.ended = object()
    assert f"{world.first.id}  (ended)" in world.do(":tree")


def test_closing_ends_every_cell(world: World) -> None:
    world.do(":fork")
    world.do(":fork")
    cells = list(world.session._cells.values())
    world.session.close()
    assert len(cells) == 3 and all(cell.closed for cell in cells)


def test_files_go_in_and_out(world: World, tmp_path: Path) -> None:
    (tmp_path / "a file.bin").write_bytes(b"\0\1")
    world.do(f":put '{tmp_path}/a file.bin' /data/")
    assert world.here.files.content == {"/data/a file.bin": b"\0\1"}
    assert "/data/a file.bin" in world.do(":files /data")
    world.do(f":get '/data/a file.bin' {tmp_path}/out.bin")
    assert (tmp_path / "out.bin").read_bytes() == b"\0\1"
    with pytest.raises(NotFound):
        world.do(f":put {tmp_path}/none /data/")
    with pytest.raises(Conflict):
        world.do(f":get /data {tmp_path}/x")
    with pytest.raises(NotFound):
        world.do(f":get '/data/a file.bin' {tmp_path}/no/such/dir")


def test_stats_and_help(world: World) -> None:
    stats = world.do(":stats")
    assert "3M" in stats and "1.500 s" in stats
    text = world.do(":help")
    assert all(command.usage in text for command in COMMANDS.values())


@pytest.mark.parametrize("line", [":nonsense", ":switch", ":fork a b", ":put x", ":files 'open", ":get a b c"])
def test_wrong_commands_say_how(world: World, line: str) -> None:
    with pytest.raises(InvalidInput):
        world.do(line)


def test_quit(world: World) -> None:
    with pytest.raises(Quit):
        world.do(":quit")


def test_a_tree_as_json_and_harmless_on_a_terminal() -> None:
    root = Node("python", "template")
    child = root.add(Node("c1", "cell", "\x1b[2Jevil", "[bold]no markup[/]"))
    child.add(Node("c2", "cell"))
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True).print(draw(root, child))
    assert "\x1b[2J" not in out.getvalue() and "\\x1b[2Jevil" in out.getvalue() and "[bold]no markup[/]" in out.getvalue()
    document = cast(Any, root.to_json())
    assert document["children"][0]["children"][0] == {
        "id": "c2", "kind": "cell", "label": "", "note": "", "ended": False, "children": [],
    }  # fmt: skip
    assert [node.id for node in root.walk()] == ["python", "c1", "c2"]


@pytest.mark.parametrize(
    ("code", "complete"),
    [
        ("x = 1", True), ("for i in range(2):", False), ("for i in range(2):\n    print(i)", False),
        ("for i in range(2):\n    print(i)\n", True), ("f(", False), ("'''a", False), ("1 +* 2", True),
        ("await f()", True), ("async with a:", False), ("", True), ("x = 1 is 1", True), ("a\0b", True),
    ],
)  # fmt: skip
def test_completeness(code: str, complete: bool) -> None:
    assert Completeness().is_complete(code) is complete


def test_completion() -> None:
    completer = Completer(lambda: cast(Any, FakeCell()))
    assert completer.candidates("alp", "alp") == ["alpha", "alpine"]
    assert completer.candidates("x = np.al", "np.al") == ["np.alpha", "np.alpine"]
    assert completer.candidates("", "") == ["    "]
    assert completer.candidates(":sn", "sn") == ["snapshot"]
    assert completer.candidates(":put al", "al") == []


def test_completion_without_an_answer() -> None:
    class Broken(FakeCell):
        def complete(self, code: str, cursor: int) -> Any:
            raise ProngError("it is gone")

    assert Completer(lambda: cast(Any, Broken())).candidates("alp", "alp") == []
