"""What is put into an image: all of it, and only what an old Python can run; and how the runtime starts and ends."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import prong.guest
from prong.cell.runtime_messages import Ready, WarmFailed
from prong.guest import pack
from tests.guest.harness import HANG, guest

HERE = Path(prong.guest.__file__).parent


def test_every_module_of_the_runtime_is_packed() -> None:
    """boot.py is packed under another name; other programs for the inside of sandboxes are not the runtime's."""
    files = pack.runtime_files()
    reached = {"runtime.py", "__init__.py"}
    pending = list(reached)
    while pending:
        for node in ast.walk(ast.parse((HERE / pending.pop()).read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                new = {f"{name}.py" for name in names} - reached
                reached |= new
                pending += new
    assert {f"{pack.PACKAGE}/{name}" for name in reached} | {"__main__.py"} == set(files)


def test_packed_files_parse_on_the_oldest_python() -> None:
    for name, content in pack.runtime_files().items():
        ast.parse(content, name, feature_version=(3, 9))


def test_command() -> None:
    assert pack.start_command() == ["/usr/bin/python3", "-I", "-X", "utf8", "/usr/lib/prong/runtime"]
    assert pack.start_command(warm="/w.py")[-2:] == ["--warm", "/w.py"]


def test_started_wrongly(tmp_path: Path) -> None:
    pack.write_runtime(tmp_path)
    command = [sys.executable, "-I", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG, env={}, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("usage: PRONG_CONTROL_FD=N")


def test_warm_failure_is_reported() -> None:
    with guest(warm="x = 1\ny = x / 0\n", expect_ready=False) as process:
        message = process.wait_message()
        assert isinstance(message, WarmFailed) and message.error.name == "ZeroDivisionError"
        assert [(frame.line, frame.source) for frame in message.error.traceback] == [(2, "y = x / 0")]
        assert process.process.wait(HANG) == 1


def test_ready_names_what_is_warm() -> None:
    with guest(
        warm="import sys, types\nsys.modules['some_package'] = types.ModuleType('some_package')", expect_ready=False
    ) as process:
        message = process.wait_message()
        assert isinstance(message, Ready)
        assert message.python == ".".join(map(str, sys.version_info[:3])) and "some_package" in message.packages


def test_end_of_the_control_stream_ends_the_runtime() -> None:
    with guest() as process:
        assert process.close() == 0


def test_user_code_does_not_see_the_runtime() -> None:
    with guest() as process:
        code = (
            "import os, sys\n"
            "[sorted(name for name in sys.modules if 'prong_guest' in name), 'PRONG_CONTROL_FD' in os.environ, sys.argv,\n"
            " sys.path[0], [p for p in sys.path if 'runtime' in p], __name__, sys.modules['__main__'].__dict__ is globals()]"
        )
        assert process.run(code).text == "[[], False, [''], '', [], '__main__', True]"
        code = "import json, traceback\n[f.__module__ for f in (json.dumps, traceback.print_exc)]"
        assert process.run(code).text == "['json', 'traceback']"
        code = "import json, sys\njson is sys.modules['json'], json.__builtins__ is __builtins__.__dict__"
        assert process.run(code).text == "(True, True)"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_printing_run_is_three_system_calls(tmp_path: Path) -> None:
    """Each one is an exit of the VM: read the request, write the output, write everything else.

    In a cell the last write and the next read are one ``ioctl``; an ordinary stream answers it ENOTTY, once.
    """
    log = tmp_path / "calls"
    with guest(wrapper=("strace", "-o", str(log))) as process:
        process.run("print('hi')")
        process.run("1 + 1")
        process.script("print('hi')")
        process.close()
    lines = log.read_text().splitlines()
    [ready] = [number for number, line in enumerate(lines) if line.startswith("write") and "ready" in line]
    calls = [line.partition("(")[0] for line in lines[ready + 1 :]]
    served = [name for name in calls if name in ("read", "write")]
    assert calls.count("ioctl") == 1
    calls.remove("ioctl")
    assert calls[: len(served)] == served, "nothing but reads and writes until the stream ends"
    assert served[-1] == "read" and served.count("write") == 5 and len(served) == 9
