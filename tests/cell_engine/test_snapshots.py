"""Snapshots, rollback, hibernation, and the portable file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.cell.engine import Cell, Engine
from prong.errors import Conflict, Corrupt, InvalidInput, NotFound
from prong.store.manifest import MEMORY, STATE
from prong.store.snapshots import Snapshot
from tests.cell_support import PATHS

pytestmark = pytest.mark.kvm

BUSY = """
import threading, time, os
done = []
f = open('/tmp/f', 'w+'); f.write('buffered '); os.write(f.fileno(), b'written ')
threading.Thread(target=lambda: (time.sleep(1.0), done.append('slept')), daemon=True).start()
threading.Timer(1.2, lambda: done.append('timer')).start()
lock = threading.Lock(); lock.acquire()
threading.Thread(target=lambda: (lock.acquire(), done.append('locked')), daemon=True).start()
r, w = os.pipe(); os.write(w, b'in the pipe')
x = {'a': list(range(1000))}
"""
CHECK = """
lock.release()
end = time.monotonic() + 20
while len(done) < 3 and time.monotonic() < end: time.sleep(0.02)
f.flush(); f.seek(0)
(sorted(done), os.read(r, 99), f.read(), sum(x['a']), threading.active_count())
"""
WANT = "(['locked', 'slept', 'timer'], b'in the pipe', 'written buffered ', 499500, 1)"


@pytest.fixture
def saved(engine: Engine, cell: Cell) -> Snapshot:
    """A snapshot of a busy cell."""
    cell.run(BUSY)
    return engine.snapshot(cell, "busy")


def test_restore_in_another_engine(engine: Engine, cell: Cell, saved: Snapshot) -> None:
    assert cell.run(CHECK, timeout=60).text == WANT, "the original goes on"
    with Engine(PATHS) as other, other.restore(saved.id) as again:
        assert again.run(CHECK, timeout=60).text == WANT
        name = again.run("import socket; socket.gethostname()").text
        assert name == repr(again.identity.hostname) != repr(cell.identity.hostname)
    engine.snapshots.rm(saved.id)


def test_two_restores_are_two_computers(engine: Engine, saved: Snapshot) -> None:
    code = "import os, random, uuid; (os.urandom(8), random.random(), uuid.uuid4(), open('/etc/machine-id').read())"
    with engine.restore(saved) as a, engine.restore(saved) as b:
        assert a.run(code).text != b.run(code).text
        assert a.identity.generation == b.identity.generation > 1
        a.run("x['a'].clear()")
        assert b.run("len(x['a'])").text == "1000"


def test_hibernate_keeps_the_identity(engine: Engine, cell: Cell) -> None:
    code = (
        "import socket; (socket.gethostname(), open('/etc/machine-id').read(), "
        "open('/proc/sys/kernel/random/boot_id').read())"
    )
    before = cell.run(code).text
    cell.run(BUSY)
    snapshot = engine.snapshot(cell)
    cell.close()
    with engine.restore(snapshot, keep_identity=True) as again:
        assert again.run(code).text == before
        assert again.identity == cell.identity
        assert again.run(CHECK, timeout=60).text == WANT


def test_rollback(engine: Engine, cell: Cell) -> None:
    cell.run("x = 1")
    snapshot = engine.snapshot(cell)
    cell.run("x = 2; import os; os.remove('/usr/bin/python3')")
    back = engine.rollback(cell, snapshot)
    with back:
        assert back.id == cell.id and cell.closed
        assert back.run("x").text == "1"
        assert back.files.exists("/usr/bin/python3")


def test_snapshots_form_a_tree(engine: Engine, cell: Cell) -> None:
    root = engine.snapshot(cell, "root")
    cell.run("x = 1")
    child = engine.snapshot(cell)
    assert child.manifest.parent == root.id
    with engine.restore(root) as other:
        assert engine.snapshot(other).manifest.parent == root.id


def test_snapshot_of_a_fork_of_a_restored_cell(engine: Engine, saved: Snapshot) -> None:
    with engine.restore(saved) as first, first.fork()[0] as fork:
        fork.run("y = 'deep'")
        with engine.restore(engine.snapshot(fork)) as last:
            assert last.run("y, len(x['a'])").text == "('deep', 1000)"


def test_running_code_goes_on_after_a_restore(engine: Engine, cell: Cell) -> None:
    """A snapshot taken in the middle of a run: the code runs on in the restored cell."""
    said = threading.Event()
    code = (
        "import os\nprint('go', flush=True)\nwhile not os.path.exists('/tmp/stop'): pass\n"
        "open('/tmp/ended', 'w').write('yes')"
    )
    thread = threading.Thread(target=lambda: cell.run(code, on_stdout=lambda _: said.set()))
    thread.start()
    said.wait(30)
    snapshot = engine.snapshot(cell)
    cell.files.write("/tmp/stop", "")
    thread.join(60)
    with engine.restore(snapshot, keep_identity=True) as again:
        assert not again.files.exists("/tmp/ended")
        again.files.write("/tmp/stop", "")
        assert again.run("open('/tmp/ended').read()", timeout=30).text == "'yes'"


def test_export_and_import(engine: Engine, saved: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "cell.prong"
    engine.export(saved, path)
    with pytest.raises(Conflict):
        engine.export(saved, path)
    engine.snapshots.rm(saved.id)
    with pytest.raises(NotFound):
        engine.restore(saved.id)
    back = engine.import_file(path)
    with engine.restore(back) as cell:
        assert cell.run(CHECK, timeout=60).text == WANT


def test_damaged_files_are_refused_whole(engine: Engine, saved: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "cell.prong"
    engine.export(saved, path)
    engine.snapshots.rm(saved.id)
    good = path.read_bytes()
    count = len(engine.snapshots.ls())
    size = len(good)
    for at in [0, 4, 40, 200, size // 4, size // 2, size - 3]:
        damaged = bytearray(good)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises((Corrupt, InvalidInput)):
            engine.import_file(path)
    for cut in [0, 3, 100, size // 2, size - 1]:
        path.write_bytes(good[:cut])
        with pytest.raises((Corrupt, InvalidInput)):
            engine.import_file(path)
    path.write_bytes(good + b"more")
    with pytest.raises((Corrupt, InvalidInput)):
        engine.import_file(path)
    assert len(engine.snapshots.ls()) == count
    with pytest.raises(NotFound):
        engine.import_file(tmp_path / "nothing")


def test_a_damaged_snapshot_on_disk_is_refused(engine: Engine, saved: Snapshot) -> None:
    """The state is hashed at each use; the memory only when imported (``check(whole_memory=True)``), its length always."""
    state, memory = saved.path / STATE, saved.path / MEMORY
    good = state.read_bytes()
    for at in range(0, len(good), len(good) // 7):
        state.chmod(0o600)
        state.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Corrupt):
            engine.restore(saved.id)
    state.write_bytes(good)
    memory.chmod(0o600)
    with memory.open("r+b") as file:
        file.truncate(memory.stat().st_size - 4096)
    with pytest.raises(Corrupt):
        engine.restore(saved.id)


def test_a_cell_that_ended_has_nothing_to_save(engine: Engine, cell: Cell) -> None:
    cell.run("import os; os._exit(1)")
    count = len(engine.snapshots.ls())
    with pytest.raises(Conflict):
        engine.snapshot(cell)
    assert len(engine.snapshots.ls()) == count


@pytest.fixture(autouse=True)
def _tidy(engine: Engine) -> Iterator[None]:
    before = {s.id for s in engine.snapshots.ls()}
    yield
    for snapshot in engine.snapshots.ls():
        if snapshot.id not in before:
            engine.snapshots.rm(snapshot.id, force=True)
