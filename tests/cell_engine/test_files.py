"""Files in and out from outside."""

from __future__ import annotations

import os
import threading

import pytest

from prong.cell.engine import Cell, Template
from prong.cell.limits import MIB, Limits
from prong.errors import Conflict, InvalidInput, LimitExceeded, NotFound

pytestmark = pytest.mark.kvm


@pytest.mark.parametrize("size", [0, 1, 4096, (4 << 20) - 1, 4 << 20, (9 << 20) + 5])
def test_bytes_are_exact_both_ways(cell: Cell, size: int) -> None:
    data = os.urandom(size)
    cell.files.write("/tmp/x", data)
    assert cell.files.read("/tmp/x") == data
    assert cell.files.stat("/tmp/x").size == size
    done = cell.run("import hashlib; hashlib.sha256(open('/tmp/x','rb').read()).hexdigest()")
    import hashlib

    assert done.text == repr(hashlib.sha256(data).hexdigest())


def test_parts(cell: Cell) -> None:
    cell.files.write("/tmp/x", b"0123456789")
    assert cell.files.read("/tmp/x", 3, 4) == b"3456"
    assert cell.files.read("/tmp/x", 8, 400) == b"89"
    assert cell.files.read("/tmp/x", 100) == b""
    assert cell.files.read("/tmp/x", 0, 0) == b""


def test_replacing_cuts_and_keeps_mode(cell: Cell) -> None:
    cell.files.write("/tmp/x", b"long content", mode=0o600)
    cell.files.write("/tmp/x", "é")
    assert cell.files.read_text("/tmp/x") == "é"


def test_what_the_program_sees_and_writes(cell: Cell) -> None:
    cell.run(
        "import os; os.makedirs('/srv/a/b'); open('/srv/a/b/c', 'w').write('x'); os.symlink('/nowhere', '/srv/a/l')"
        "; os.mkfifo('/srv/a/p')"
    )
    kinds = {e.path: e.kind for e in cell.files.list("/srv/a")}
    assert kinds == {"/srv/a/b": "directory", "/srv/a/l": "symlink", "/srv/a/p": "fifo"}
    cell.files.move("/srv/a/b/c", "/srv/a/d")
    cell.files.mkdir("/srv/new/deep")
    cell.files.remove("/srv/a/b")
    assert cell.run("import os; sorted(os.listdir('/srv/a')) + os.listdir('/srv/new')").text == "['d', 'l', 'p', 'deep']"
    cell.files.remove("/srv", recursive=True)
    assert not cell.files.exists("/srv")


def test_odd_names(cell: Cell) -> None:
    for name in ("a b", "é", "\udcff", "x" * 255, "new\nline", "-rf"):
        cell.files.write(f"/tmp/{name}", name.encode("utf-8", "surrogateescape"))
    assert {e.path for e in cell.files.list("/tmp")} >= {"/tmp/\udcff", "/tmp/new\nline"}
    assert cell.files.read("/tmp/\udcff") == b"\xff"


def test_errors(cell: Cell) -> None:
    files = cell.files
    with pytest.raises(NotFound):
        files.read("/nope")
    with pytest.raises(NotFound):
        files.write("/nope/x", b"")
    with pytest.raises(Conflict):
        files.read("/usr")
    with pytest.raises(Conflict):
        files.remove("/usr")
    with pytest.raises(InvalidInput):
        files.read("relative")
    with pytest.raises(InvalidInput):
        files.read("/a\0b")
    with pytest.raises(InvalidInput):
        files.read("/" + "x" * 300)
    with pytest.raises((NotFound, InvalidInput)):
        files.read("/" + "x/" * 3000)
    with pytest.raises(Conflict):
        files.mkdir("/usr", parents=False)
    cell.run("import os; os.symlink('/tmp/loop', '/tmp/loop')")
    with pytest.raises(InvalidInput):
        files.read("/tmp/loop")


def test_special_files_do_not_block_or_flood(cell: Cell) -> None:
    cell.run("import os; os.mkfifo('/tmp/fifo')")
    for path in ("/tmp/fifo", "/dev/zero", "/dev/urandom", "/dev/stdin", "/proc/self/mem"):
        try:
            assert len(cell.files.read(path, 0, 10)) <= 10
        except (InvalidInput, NotFound, Conflict):
            continue


def test_overlay_limit(template: Template) -> None:
    with template.fork(limits=Limits(overlay=6 * MIB)) as cell:
        with pytest.raises(LimitExceeded) as caught:
            cell.files.write("/tmp/big", bytes(20 << 20))
        assert caught.value.data["limit"] == "overlay"
        if cell.files.exists("/tmp/big"):
            cell.files.remove("/tmp/big")
        cell.files.write("/tmp/small", b"x")


def test_while_code_runs(cell: Cell) -> None:
    code = "import os, time\nwhile not os.path.exists('/tmp/go'): pass\nopen('/tmp/go').read()"
    timer = threading.Timer(0.1, lambda: cell.files.write("/tmp/go", "went"))
    timer.start()
    assert cell.run(code, timeout=30).text == "'went'"
    timer.join()
