"""Modes script and file: what ``python3 program.py`` would do, its exit codes and its end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.harness import GuestProcess

PROGRAMS = {
    "nothing": "",
    "name": "print(__name__)",
    "exit none": "raise SystemExit(None)",
    "exit int": "import sys\nsys.exit(7)",
    "exit true": "raise SystemExit(True)",
    "exit 256": "raise SystemExit(256)",
    "exit -1": "raise SystemExit(-1)",
    "exit huge": "raise SystemExit(1 << 70)",
    "exit text": "raise SystemExit('a reason')",
    "exit object": "raise SystemExit([1, 2])",
    "uncaught": "def f():\n    raise ValueError('v')\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('v')",
    "syntax": "x = (1 +",
    "recursion": "def f():\n    f()\nf()",
    "group": "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])",
    "atexit": "import atexit\natexit.register(print, 1)\natexit.register(print, 2)\nprint(0)",
    "atexit after error": "import atexit\natexit.register(print, 'end')\n1 / 0",
    "atexit exit code kept": "import atexit, sys\natexit.register(print, 'end')\nsys.exit(4)",
    "unregister": "import atexit\natexit.register(print, 1)\natexit.unregister(print)",
    "thread joined": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('t'))).start()",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0",
    "broken hook": "import sys\nsys.excepthook = lambda *a: 1 + ''\n1 / 0",
    "no newline": "import sys\nsys.stdout.write('partial')",
    "stdout closed": "import sys\nprint('before')\nsys.stdout.close()",
    "stdout none": "import sys\nsys.stdout = None\nprint('nowhere')",
    "stderr none": "import sys\nsys.stderr = None\n1 / 0",
    "stdout replaced": "import io, sys\nsys.stdout = io.StringIO()\nprint('captured')",
    "main module": "import sys\nprint(sys.modules['__main__'].__dict__ is globals())",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_python(runtime: GuestProcess, tmp_path: Path, name: str) -> None:
    """The same program file, natively and in the runtime: same streams, same status."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[name])
    command = [sys.executable, "-I", "-X", "utf8", str(program)]
    expected = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    execution = runtime.run(None, mode="file", filename=str(program))
    assert execution.exit_code == expected.returncode
    assert execution.stdout == expected.stdout
    if name == "broken hook":  # Python words it the same and cuts the traceback elsewhere
        assert "Error in sys.excepthook:" in execution.stderr and "ZeroDivisionError" in execution.stderr
    else:
        assert _without_count(execution.stderr) == _without_count(expected.stderr)


def _without_count(text: str) -> str:
    """The runtime's own frames leave user code a few levels less."""
    return re.sub(r"repeated \d+ more times", "repeated", text).rstrip()


def test_uncaught_error_is_printed_and_data(runtime: GuestProcess) -> None:
    execution = runtime.script("1 / 0")
    assert execution.exit_code == 1 and execution.error is not None
    assert execution.stderr == execution.error.formatted and 'File "<script>", line 1' in execution.stderr


def test_keyboard_interrupt_is_130(runtime: GuestProcess) -> None:
    assert runtime.script("raise KeyboardInterrupt").exit_code == 130


def test_each_script_starts_fresh(runtime: GuestProcess) -> None:
    runtime.script("import sys\nleft = 1\nsys.stdout = None\nsys.path.insert(0, '/nowhere')\nsys.argv.append('x')")
    execution = runtime.script("import sys\nprint('left' in globals(), '/nowhere' in sys.path, sys.argv)", argv=("a",))
    assert execution.stdout == "False False ['a']\n"


def test_script_in_a_context_shares_its_names(runtime: GuestProcess) -> None:
    runtime.run("shared = 11")
    assert runtime.script("print(shared + 1)", context="main").stdout == "12\n"


def test_file_imports_its_neighbour(runtime: GuestProcess, tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_program.py").write_text("value = 'near'\n")
    program = tmp_path / "program.py"
    program.write_bytes(b"# coding: latin-1\nimport neighbour_of_program as n\nprint(n.value, '\xe9', __file__)\n")
    execution = runtime.run(None, mode="file", filename=str(program))
    assert execution.stdout == f"near é {program}\n", execution


def test_missing_file(runtime: GuestProcess) -> None:
    execution = runtime.run(None, mode="file", filename="/no/such/program.py")
    assert execution.exit_code == 2 and execution.error is not None and execution.error.name == "FileNotFoundError"
    assert "can't open file '/no/such/program.py'" in execution.stderr


def test_failing_exit_callback_is_reported(runtime: GuestProcess) -> None:
    execution = runtime.script("import atexit\natexit.register(print, 'still')\natexit.register(lambda: 1 / 0)")
    assert execution.exit_code == 0 and execution.stdout == "still\n"
    assert "Exception ignored in atexit callback" in execution.stderr and "ZeroDivisionError" in execution.stderr


def test_no_result_in_a_script(runtime: GuestProcess) -> None:
    assert runtime.script("1 + 1").results == ()


def test_flush_failure_is_120(fresh: GuestProcess) -> None:
    execution = fresh.script("import os, sys\nsys.stdout.reconfigure(line_buffering=False)\nprint('x')\nos.close(1)")
    assert execution.exit_code == 120
    assert execution.error is not None and execution.error.name == "OSError"
