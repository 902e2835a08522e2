"""Forks: of the template by the hundred, of live cells in the middle of things, and of forks."""

from __future__ import annotations

import threading

import pytest

from prong.cell.engine import Cell, Template
from prong.errors import Conflict, InvalidInput
from tests.cell_engine.processes import descendants, eventually

pytestmark = pytest.mark.kvm

IDENTITY = """
import os, random, uuid, secrets, socket, tempfile, time, threading
import numpy as np
[os.urandom(16).hex(), random.random(), random.Random().random(), float(np.random.rand()),
 str(uuid.uuid4()), str(uuid.uuid1()),
 secrets.token_hex(16), socket.gethostname(), os.uname().nodename, open('/etc/machine-id').read(),
 open('/proc/sys/kernel/random/boot_id').read(), float(np.random.default_rng().random()), tempfile.mktemp(),
 open('/proc/sys/kernel/random/uuid').read(), os.getrandom(8).hex(), open('/dev/urandom', 'rb').read(8).hex(),
 open('/run/prong/generation').read(), __import__('prong').generation()]
"""


def everything_differs(rows: list[list[object]]) -> None:
    for i, column in enumerate(zip(*rows, strict=True)):
        assert len(set(column)) == len(column), f"item {i} repeats: {sorted(map(str, column))[:4]}…"


def identity(cell: Cell) -> list[object]:
    done = cell.run(IDENTITY, timeout=60)
    assert done.text is not None, done.error
    value: list[object] = eval(done.text, {"__builtins__": {}})
    return value


def test_a_hundred_forks_of_a_template_are_all_different(template: Template) -> None:
    cells = template.fork_many(100)
    try:
        everything_differs([identity(c) for c in cells])
    finally:
        for c in cells:
            c.close()


def test_a_hundred_live_forks_are_all_different(cell: Cell) -> None:
    cell.run("import random, numpy as np; random.seed(5); np.random.seed(5)")
    forks = cell.fork(100)
    try:
        everything_differs([identity(c) for c in (cell, *forks)])
    finally:
        for c in forks:
            c.close()


def test_hash_seeds_of_forks(template: Template) -> None:
    """The hash seed is fixed when the interpreter starts: forks of one template share it. What is promised is only that."""
    with template.fork() as a, template.fork() as b:
        assert a.run("hash('x')").text == b.run("hash('x')").text


def test_state_goes_separate_ways(cell: Cell) -> None:
    cell.run("x = [1]; open('/tmp/f', 'w').write('one')")
    with cell.fork()[0] as fork:
        fork.run("x.append(2); open('/tmp/f', 'a').write(' two')")
        cell.run("x.append(3)")
        assert fork.run("x, open('/tmp/f').read()").text == "([1, 2], 'one two')"
        assert cell.run("x, open('/tmp/f').read()").text == "([1, 3], 'one')"
        assert fork.parent is cell and fork in cell.children


def test_forks_of_forks_go_deep(cell: Cell) -> None:
    line = [cell]
    cell.run("depth = [0]")
    try:
        for i in range(1, 12):
            line.append(line[-1].fork()[0])
            line[-1].run(f"depth.append({i})")
        assert [c.run("len(depth)").text for c in line] == [str(i + 1) for i in range(12)]
        generations = [c.identity.generation for c in line]
        assert generations == sorted(set(generations))
        line[3].close()
        assert line[7].run("depth[-1]").text == "7", "a fork outlives what it came from"
    finally:
        for c in line[1:]:
            c.close()


def fork_while(cell: Cell, code: str, count: int = 1) -> tuple[list[Cell], threading.Thread, list[str]]:
    """Run ``code`` in a thread and fork when it has said "go"."""
    said = threading.Event()
    out: list[str] = []

    def sink(text: str) -> None:
        if "go" in text:
            said.set()

    thread = threading.Thread(target=lambda: out.append(cell.run(code, timeout=60, on_stdout=sink).stdout))
    thread.start()
    assert said.wait(30)
    return cell.fork(count), thread, out


def test_in_the_middle_of_a_loop(cell: Cell) -> None:
    code = """
import os, socket
print('go', flush=True)
n = 0
while not os.path.exists('/tmp/stop'):
    n += 1
print('ended on', socket.gethostname(), open('/tmp/stop').read())
"""
    forks, thread, out = fork_while(cell, code, 3)
    try:
        for i, fork in enumerate(forks):
            fork.files.write("/tmp/stop", f"fork {i}")
        ends = [f.join(60).stdout for f in forks]
        assert ends == [f"ended on {f.identity.hostname} fork {i}\n" for i, f in enumerate(forks)]
        assert thread.is_alive(), "the original goes on"
        assert all(f.run("n > 0").text == "True" for f in forks)
    finally:
        cell.files.write("/tmp/stop", "original")
        thread.join(60)
        for fork in forks:
            fork.close()
    assert out == [f"go\nended on {cell.identity.hostname} original\n"] or "original" in out[0]


def test_in_the_middle_of_a_result_too_big_for_one_write(cell: Cell) -> None:
    """Frames of the control stream and characters of the output may be cut by the fork; both sides end up whole."""
    code = "print('go', flush=True)\nfor i in range(400): print('é' * 5000)\n'r' * 300_000"
    forks, thread, out = fork_while(cell, code, 4)
    thread.join(60)
    ends = [f.join(60) for f in forks]
    for fork in forks:
        fork.close()
    whole = "go\n" + ("é" * 5000 + "\n") * 400
    assert out == [whole]
    for end in ends:
        assert end.text is not None and len(end.text) > 1000
        assert whole.endswith(end.stdout), "what came since the fork, nothing lost or twice"


def test_threads_timers_and_sleepers_come_along(cell: Cell) -> None:
    code = """
import threading, time, signal, os
done = []
threading.Thread(target=lambda: (time.sleep(0.5), done.append('slept')), daemon=True).start()
threading.Timer(0.6, lambda: done.append('timer')).start()
lock = threading.Condition()
def waiter():
    with lock:
        lock.wait()
    done.append('woken')
threading.Thread(target=waiter, daemon=True).start()
signal.signal(signal.SIGALRM, lambda *_: done.append('alarm'))
signal.setitimer(signal.ITIMER_REAL, 0.4)
r, w = os.pipe()
threading.Thread(target=lambda: done.append(os.read(r, 9).decode()), daemon=True).start()
f = open('/tmp/log', 'w'); f.write('begun ')
"""
    assert cell.run(code).ok
    check = """
with lock: lock.notify_all()
os.write(w, b'piped')
end = time.monotonic() + 20
while len(done) < 5 and time.monotonic() < end: time.sleep(0.02)
f.write('ended'); f.flush()
sorted(done), open('/tmp/log').read()
"""
    with cell.fork()[0] as fork:
        want = "(['alarm', 'piped', 'slept', 'timer', 'woken'], 'begun ended')"
        assert fork.run(check, timeout=60).text == want
        assert cell.run(check, timeout=60).text == want


def test_open_connections_inside_come_along(cell: Cell) -> None:
    cell.run(
        "import socket; a, b = socket.socketpair(); s = socket.create_server(('127.0.0.1', 0))"
        "; c = socket.create_connection(s.getsockname()); d, _ = s.accept(); c.send(b'early')"
    )
    with cell.fork()[0] as fork:
        for one in (cell, fork):
            assert (
                one.run("a.send(b'x'); b.recv(1), d.recv(9), d.send(b'back'), c.recv(9)").text
                == "(b'x', b'early', 4, b'back')"
            )


def test_fork_hooks_and_generation(cell: Cell) -> None:
    cell.run("import prong\nseen = []\n@prong.on_fork\ndef told(): seen.append(prong.generation())")
    before = cell.run("prong.generation()").text
    with cell.fork()[0] as fork:
        assert fork.run("seen == [prong.generation()], prong.info()['hostname']").text == repr(
            (True, fork.identity.hostname)
        )
        assert fork.run("prong.generation()").text == repr(fork.identity.generation_id) != before
        assert fork.identity.generation == cell.identity.generation + 1
    assert cell.run("seen, prong.generation()").text == f"([], {before})"


def test_interrupting_a_fork_leaves_the_original(cell: Cell) -> None:
    forks, thread, _ = fork_while(cell, "import time\nprint('go', flush=True)\ntime.sleep(3); x = 'whole'")
    with forks[0] as fork:
        fork.interrupt()
        end = fork.join(60)
        assert end.error is not None and end.error.name == "KeyboardInterrupt"
    thread.join(60)
    assert cell.run("x").text == "'whole'"


def test_counts_that_make_no_sense(cell: Cell) -> None:
    for count in (0, -1, 101):
        with pytest.raises(InvalidInput):
            cell.fork(count)
    with cell.fork()[0] as fork, pytest.raises(Conflict):
        fork.join(1)


def test_forks_leave_no_process_behind(template: Template) -> None:
    before = descendants(template.spawner.process.pid, dead=True)
    with template.fork() as cell:
        for _ in range(5):
            for fork in cell.fork(4):
                fork.close()
        assert eventually(lambda: len(descendants(template.spawner.process.pid, dead=True) - before) == 1)
    assert eventually(lambda: descendants(template.spawner.process.pid) <= before)


def test_forks_from_several_threads(template: Template) -> None:
    cells: list[Cell] = []
    threads = [threading.Thread(target=lambda: cells.extend(template.fork() for _ in range(5))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({c.run("__import__('socket').gethostname()").text for c in cells}) == 20
    for c in cells:
        c.close()
