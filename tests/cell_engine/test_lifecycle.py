"""Engines, templates and processes: what ends, ends wholly; what is killed is reported; nothing hangs."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest

from prong.cell.engine import Engine, Template
from prong.cell.engine.booting import Program
from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cell.engine.spawner import SpawnerDied
from prong.cell.limits import MIB, Limits
from prong.errors import InvalidInput, NotFound, SandboxGone
from tests.cell_engine.processes import descendants, eventually, host_of, kill
from tests.cell_support import PATHS

pytestmark = pytest.mark.kvm


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_closing_an_engine_leaves_nothing(engine: Engine, template: Template) -> None:
    """``engine`` and ``template`` are asked for so that building them is not part of this."""
    before = descendants(os.getpid())
    descriptors, threads = open_descriptors(), threading.active_count()
    other = Engine(PATHS)
    cells = other.template().fork_many(5)
    cells += cells[0].fork(3)
    assert cells[-1].run("1").text == "1"
    other.close()
    other.close()
    assert eventually(lambda: descendants(os.getpid()) <= before)
    with pytest.raises(SandboxGone):
        cells[0].run("1")
    for cell in cells:
        cell.close()
        cell.close()
    assert open_descriptors() == descriptors
    assert threading.active_count() == threads


def test_closing_is_quick(engine: Engine, template: Template) -> None:
    """A spawner is pid 1 of its namespace: it must not have to be waited for and killed."""
    other = Engine(PATHS)
    cell = other.template().fork()
    started = time.monotonic()
    other.close()
    assert time.monotonic() - started < 4
    cell.close()


def test_cells_leave_no_descriptors(template: Template) -> None:
    def once() -> None:
        for cell in template.fork_many(10):
            cell.run("1")
            cell.close()

    once()
    gc.collect()
    before = open_descriptors()
    once()
    assert open_descriptors() == before


def test_hosts_hold_no_sockets_of_their_siblings(template: Template) -> None:
    """A host sees its own control socket, KVM and stderr; nothing of the cells forked beside it."""
    before = descendants(template.spawner.process.pid)
    cells = template.fork_many(8)
    try:
        for cell in cells:
            assert cell.run("1").text == "1"
        for pid in descendants(template.spawner.process.pid) - before:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert sum(link.startswith("socket:") for link in links) == 1, links
    finally:
        for cell in cells:
            cell.close()


def test_live_forks_hold_no_sockets_of_their_siblings(template: Template) -> None:
    before = descendants(template.spawner.process.pid)
    with template.fork() as cell:
        forks = cell.fork(6)
        for pid in descendants(template.spawner.process.pid) - before:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert sum(link.startswith("socket:") for link in links) == 1, links
            assert sum("kvm-vm" in link for link in links) == 1, links
        for fork in forks:
            fork.close()


def test_a_killed_host_is_gone_while_idle(template: Template) -> None:
    cell, pid = host_of(template.spawner, template.fork)
    assert cell.run("1").text == "1"
    kill(pid)
    with pytest.raises(SandboxGone):
        for _ in range(100):
            cell.run("1")
    for call in (lambda: cell.run("1"), cell.fork, cell.stats, cell.interrupt, lambda: cell.files.read("/etc/hostname")):
        with pytest.raises(SandboxGone):
            call()
    assert cell.closed
    cell.close()
    with template.fork() as other:
        assert other.run("1").text == "1"


def test_a_killed_host_in_the_middle_of_a_run(template: Template) -> None:
    cell, pid = host_of(template.spawner, template.fork)
    timer = threading.Timer(0.3, kill, [pid])
    timer.start()
    done = cell.run("print('begun', flush=True)\nwhile True: pass", timeout=50)
    timer.join()
    assert done.stdout == "begun\n"
    assert done.ended is not None and "gone" in done.ended
    assert not done.ok
    cell.close()


def test_closing_a_cell_in_the_middle_of_a_run(template: Template) -> None:
    cell = template.fork()
    timer = threading.Timer(0.3, cell.close)
    timer.start()
    done = cell.run("print('begun', flush=True)\nwhile True: pass", timeout=50)
    timer.join()
    assert done.ended is not None and not done.ok
    before = descendants(template.spawner.process.pid)
    assert eventually(lambda: descendants(template.spawner.process.pid) <= before)


def test_a_killed_spawner(engine: Engine, template: Template) -> None:
    """Everything under it is gone, is reported so, and the engine goes on with a new one."""
    with Engine(PATHS) as other:
        one = other.template()
        cell = one.fork()
        for pid in descendants(one.spawner.process.pid) | {one.spawner.process.pid}:
            kill(pid)
        with pytest.raises(SandboxGone):
            for _ in range(100):
                cell.run("1")
        with pytest.raises((SpawnerDied, SandboxGone)):
            one.fork()
        with other.template().fork() as again:
            assert again.run("1").text == "1"
    with template.fork() as cell:
        assert cell.run("1").text == "1"


def test_an_engine_outlives_the_thread_that_first_used_it(engine: Engine, template: Template) -> None:
    with Engine(PATHS) as other:
        found: list[Template] = []
        thread = threading.Thread(target=lambda: found.append(other.template()))
        thread.start()
        thread.join()
        time.sleep(0.2)
        with found[0].fork() as cell:
            assert cell.run("1").text == "1"


def test_two_engines_at_once(engine: Engine, template: Template) -> None:
    with Engine(PATHS) as a, Engine(PATHS) as b, a.template().fork() as x, b.template().fork() as y:
        x.run("z = 1")
        y.run("z = 2")
        assert (x.run("z").text, y.run("z").text) == ("1", "2")


def test_the_pool_gives_distinct_warm_cells(engine: Engine, template: Template) -> None:
    with Engine(PATHS) as other:
        pooled = other.template()
        pooled.keep_pool(4)
        assert eventually(lambda: pooled.parked == 4, 30)
        cells = [pooled.fork() for _ in range(6)]
        ids = {
            c.run("import os; (os.urandom(4), __import__('random').random(), __import__('socket').gethostname())").text
            for c in cells
        }
        assert len(ids) == 6
        assert eventually(lambda: pooled.parked == 4, 30)
        for c in cells:
            c.close()


def test_limits_of_a_fork(template: Template) -> None:
    most = int(template.stored.manifest.limits["memory"] or 0)
    with pytest.raises(InvalidInput) as caught:
        template.fork(limits=Limits(memory=2 * most))
    assert caught.value.data["allowed"] == most
    with template.fork(limits=Limits(memory=128 * MIB, files=40)) as cell:
        done = cell.run("a = []\nwhile True: a.append(bytearray(1 << 20))", timeout=60)
        assert done.limit is not None and (done.limit.name, done.limit.allowed) == ("memory", 128 * MIB)
        assert cell.stats()["memory_peak"] <= 128 * MIB
    with template.fork(limits=Limits(files=40)) as cell:
        done = cell.run("f = [open('/dev/null') for _ in range(100)]")
        assert done.error is not None and "Too many open files" in done.error.value


def program(engine: Engine, *argv: str) -> tuple[str, int]:
    with engine.program("python", Program(argv)) as cell:
        collector = RunCollector(0, "", RunOptions())
        cell.attach_output(collector)
        cell.start()
        ending = cell.wait_end(60)
        assert ending is not None
        done = collector.execution(None)
        return done.stdout + done.stderr, ending.exit_code


def test_programs_of_the_image(engine: Engine) -> None:
    assert program(engine, "/bin/echo", "a", "b c") == ("a b c\n", 0)
    assert program(engine, "/usr/bin/python3", "-c", "import sys; print(sys.argv); sys.exit(5)", "x")[1] == 5
    text, code = program(engine, "/bin/cat", "/nope")
    assert "No such file" in text and code == 1


@pytest.mark.parametrize("path", ["/nope", "/etc/passwd", "/usr", "relative", "/usr/lib/x86_64-linux-gnu/libc.so.6/x"])
def test_programs_that_cannot_start(engine: Engine, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        program(engine, path)
    assert caught.value.code == "bad_program"
    assert path in caught.value.message


def test_a_program_in_a_directory_that_is_not_there(engine: Engine) -> None:
    with pytest.raises(InvalidInput) as caught:
        engine.program("python", Program(("/bin/echo",), cwd="/nope"))
    assert caught.value.data["field"] == "cwd"


def test_a_name_that_does_not_exist(engine: Engine) -> None:
    with pytest.raises(NotFound):
        engine.template("no-such-template")
    with pytest.raises(NotFound):
        engine.restore("nosuchsnapshot")


def test_a_callback_that_raises_is_the_callers_own_error(template: Template) -> None:
    with template.fork() as cell:

        def bad(text: str) -> None:
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            cell.run("print(1, flush=True)\nwhile True: pass", on_stdout=bad)
        assert cell.run("1", timeout=30).text == "1", "the cell is as good as before"
