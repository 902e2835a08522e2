"""The fork contract as user code sees it: hooks run first, and a fork whose hook fails never runs anything."""

from __future__ import annotations

import pytest

from prong.cell.engine import Cell
from prong.cell.engine.cell import ForkFailed

pytestmark = pytest.mark.kvm


def test_hooks_run_in_the_fork_before_anything_else(cell: Cell) -> None:
    cell.run("import prong\ntold = []\nprong.on_fork(lambda: told.append(prong.generation()))")
    (fork,) = cell.fork()
    with fork:
        got = fork.run("(len(told), told[0] == prong.generation())")
    assert got.text == "(1, True)"
    assert cell.run("told").text == "[]", "the parent did not fork"


def test_a_failing_hook_fails_the_fork_and_nothing_runs(cell: Cell) -> None:
    cell.run("import prong\nprong.on_fork(lambda: 1 / 0)")
    (fork,) = cell.fork()
    with pytest.raises(ForkFailed) as caught:
        fork.run("open('/tmp/ran', 'w')")
    assert "ZeroDivisionError" in caught.value.message
    assert fork.closed
    assert cell.run("1 + 1").text == "2", "the parent goes on"


def test_a_failing_hook_fails_a_fork_in_the_middle_of_a_run(cell: Cell) -> None:
    import threading

    cell.run("import prong, time\nprong.on_fork(lambda: 1 / 0)")
    started = threading.Event()
    worker = threading.Thread(
        target=cell.run,
        args=("print('on')\nfor _ in range(200): time.sleep(0.01)",),
        kwargs={"on_stdout": lambda _: started.set()},
    )
    worker.start()
    assert started.wait(30)
    (fork,) = cell.fork()
    with pytest.raises(ForkFailed):
        fork.join(30)
    assert fork.closed
    cell.interrupt()
    worker.join(30)
