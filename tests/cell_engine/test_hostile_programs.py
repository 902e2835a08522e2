"""Programs that try to bring down what runs them: each is survived, and reported exactly."""

from __future__ import annotations

import pytest

from prong.cell.engine import Cell, Template
from prong.errors import Conflict, SandboxGone

pytestmark = pytest.mark.kvm


@pytest.fixture
def doomed(template: Template) -> Cell:
    """A cell whose program will not survive the test."""
    return template.fork()


def still_fine(template: Template) -> None:
    """The template still gives working cells, and no host process left a traceback."""
    with template.fork() as cell:
        assert cell.run("6 * 7").text == "42"
    assert "Traceback" not in template.spawner.last_words()


@pytest.mark.parametrize(
    ("code", "ended", "status"),
    [
        ("import os; os._exit(3)", "exited with code 3", 3),
        ("import os; os._exit(0)", "exited with code 0", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", 137),
        ("import os; os.abort()", "SIGABRT", 134),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", 139),
        ("import ctypes; ctypes.CFUNCTYPE(None)(0)()", "SIGSEGV", 139),
        ("import ctypes; ctypes.CFUNCTYPE(None)(0xFFFF800000000000)()", "SIGSEGV", 139),
        ("import ctypes; ctypes.memset(0x7FFFFFFF1000, 0, 4096)", "SIGSEGV", 139),
        ("import ctypes; ctypes.memset(id(1) & ~4095, 255, 1 << 30)", "SIG", None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV", 139),
    ],
)
def test_the_end_of_the_program(template: Template, doomed: Cell, code: str, ended: str, status: int | None) -> None:
    with doomed as cell:
        done = cell.run("print('before', flush=True)\n" + code, timeout=30)
        assert done.stdout == "before\n"
        assert done.ended is not None and ended in done.ended
        assert status is None or done.exit_code == status
        assert done.ok == (status == 0)
        with pytest.raises(Conflict):
            cell.run("1")
        with pytest.raises(Conflict):
            cell.fork()
        assert cell.stats()["memory"] > 0, "the host lives on to be asked"
    still_fine(template)


def test_a_crash_is_told_with_place_and_mapping(doomed: Cell) -> None:
    with doomed as cell:
        done = cell.run("import ctypes; ctypes.string_at(0x1234)")
        assert done.ended is not None
        assert "0x1234" in done.ended and "libc" in done.ended


def test_c_stack_overflow(template: Template, doomed: Cell) -> None:
    """Python without its own recursion guard runs out of C stack."""
    with doomed as cell:
        code = (
            "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n"
            "    def __getattr__(s, n): return getattr(s, n + 'x')\nA().a"
        )
        done = cell.run(code, timeout=60)
        assert (done.ended is not None and "SIGSEGV" in done.ended) or (done.error is not None)
    still_fine(template)


def test_python_recursion(cell: Cell) -> None:
    done = cell.run("def f(): f()\nf()")
    assert done.error is not None and done.error.name == "RecursionError"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess; subprocess.run(['/bin/sh', '-c', ':(){ :|:& };:'])",
        "import os; os.system('true') and 1/0",
        "import os; os.execv('/bin/true', ['true'])",
        "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start()",
    ],
)
def test_second_processes_are_refused_with_advice(cell: Cell, code: str) -> None:
    done = cell.run(code, timeout=30)
    assert not done.ok
    assert done.refused and done.refused[0].kind == "process"
    assert "machine" in done.refused[0].advice
    assert len(done.refused) <= 200
    assert cell.run("1").text == "1"


def test_deleting_everything(template: Template, doomed: Cell) -> None:
    with doomed as cell:
        done = cell.run(
            "import shutil; shutil.rmtree('/', ignore_errors=True); import os; sorted(os.listdir('/'))", timeout=100
        )
        assert done.ended is None
        assert cell.run("1 + 1").text == "2"
        assert "'usr'" not in (done.text or "'usr'")
    still_fine(template)
    with template.fork() as other:
        assert other.files.exists("/usr/bin/python3"), "the image is as it was"


def test_closing_every_descriptor(cell: Cell) -> None:
    done = cell.run("import os; os.closerange(0, 1 << 20); [os.close(f) for f in range(3, 10) if not os.close]")
    assert done.ended is None
    assert cell.run("1").text == "1"


def test_writing_to_every_descriptor_number(template: Template, doomed: Cell) -> None:
    """The control stream's number can be found; what is forged on it is checked, and ends the cell at worst."""
    with doomed as cell:
        code = (
            "import os\nfor fd in [*range(3, 100), 1000003]:\n    try: os.write(fd, b'\\xff' * 100)\n"
            "    except OSError: pass"
        )
        try:
            done = cell.run(code, timeout=20)
            assert done.ended is not None and "protocol" in done.ended
        except SandboxGone as gone:
            assert "protocol" in gone.message
    still_fine(template)


FORGE = """
import json, os
def frame(**m):
    b = json.dumps(m).encode()
    return len(b).to_bytes(4, "big") + b
"""


@pytest.mark.parametrize(
    "forged",
    [
        "frame(type='finished', id=1, nonce='', exit_code=0, execution_count=1)",
        "frame(type='finished', id=1, nonce='0' * 32, exit_code=0, execution_count=1)",
        "frame(type='result', id=1, nonce='x', bundle={'text/plain': '42'})",
    ],
)
def test_a_forged_end_without_the_nonce_is_not_believed(doomed: Cell, forged: str) -> None:
    with doomed as cell:
        code = (
            FORGE + f"for fd in (3, 1000003):\n    try: os.write(fd, {forged})\n    except OSError: pass\n"
            "print('after')\nraise SystemExit(7)"
        )
        done = cell.run(code, timeout=20)
        assert done.ended is not None or (done.exit_code, done.stdout) == (7, "after\n")


def test_huge_and_endless_frames(template: Template) -> None:
    for forged in (
        "b'\\xff\\xff\\xff\\xff'",
        "b'\\x00\\x10\\x00\\x00' + b'[' * 0x100000",
        "frame(type='ready', protocol=1, python='x', packages=['y'] * 10**6)",
    ):
        with template.fork() as cell:
            code = FORGE + f"data = {forged}\nwhile data: data = data[os.write(1000003, data):]\nprint('on')"
            done = cell.run(code, timeout=30)
            assert done.ended is not None or done.stdout == "on\n"
    still_fine(template)


def test_printing_for_ever_from_threads(cell: Cell) -> None:
    code = (
        "import threading\ndef f():\n    while True: print('z' * 999)\n"
        "[threading.Thread(target=f, daemon=True).start() for _ in range(5)]\nf()"
    )
    done = cell.run(code, output=300_000, timeout=30)
    assert done.limit is not None and done.limit.name == "output"
    assert len(done.stdout) <= 300_000
    done = cell.run("1", output=300_000, timeout=30)
    assert len(done.stdout) <= 300_000


def test_signals_by_the_program(cell: Cell) -> None:
    code = (
        "import os, signal\nfor n in range(1, 65):\n    if n not in (9, 19, 32, 33):\n"
        "        try: signal.signal(n, signal.SIG_IGN); os.kill(os.getpid(), n)\n"
        "        except (OSError, ValueError): pass\n'here'"
    )
    assert cell.run(code, timeout=30).text == "'here'"


def test_machine_code_that_a_program_may_not_run(template: Template) -> None:
    """Privileged and reserved instructions become the signals Linux sends."""
    names = {
        "hlt": b"\xf4",
        "ud2": b"\x0f\x0b",
        "cli": b"\xfa",
        "in": b"\xe4\x60",
        "rdmsr": b"\x0f\x32",
        "cr3": b"\x0f\x20\xd8",
    }
    for name, code in names.items():
        with template.fork() as cell:
            done = cell.run(
                "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
                f"m.write({code + bytes([0xC3])!r})\n"
                "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
                timeout=20,
            )
            assert done.ended is not None, name
            assert ("SIGILL" if name == "ud2" else "SIGSEGV") in done.ended, (name, done.ended)
    still_fine(template)


def test_names_that_are_not_unicode_are_shown_escaped(template: Template, doomed: Cell) -> None:
    """In refusals, crash reports, host names: text on the control connection, bytes of the program's choice."""
    with doomed as cell:
        done = cell.run("import os; os.execv(b'/tmp/\\xff', ['x'])")
        assert not done.ok and all(r.detail.isprintable() for r in done.refused)
        code = (
            "import ctypes, mmap, os, socket\nsocket.sethostname(b'\\xea\\xff')\n"
            "f = os.open(b'/tmp/\\xfe\\xea', os.O_RDWR | os.O_CREAT)\nos.write(f, bytes(4096))\n"
            "m = mmap.mmap(f, 4096, prot=5, flags=2)\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
            "at = libc.mmap(None, ctypes.c_size_t(4096), 5, 2, f, ctypes.c_long(0))\nctypes.CFUNCTYPE(None)(at)()"
        )
        done = cell.run(code)
        assert done.ended is not None and "SIG" in done.ended
        cell.learn_identity()
        assert cell.stats()["memory"] > 0
    still_fine(template)
