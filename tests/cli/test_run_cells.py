"""``prong run`` for real: statuses, streams, signals, files, limits, JSON, each as a process sees them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from prong.cell.engine import Template
from tests.cli.terminal import HANG_S, PRONG, Running, environment, prong, prong_json

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("template")]


def test_output_arguments_and_status() -> None:
    code = "import sys; print(sys.argv); print('ärger', file=sys.stderr); sys.exit(7)"
    done = prong("run", code, "--env", "A=1", "--", "a", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"['-c', 'a', '--json']\n", "ärger\n".encode())


def test_a_file_runs_under_its_name_with_files_in_and_out(tmp_path: Path) -> None:
    program, data, result = tmp_path / "job.py", tmp_path / "data.bin", tmp_path / "result.bin"
    data.write_bytes(bytes(range(256)))
    program.write_text(
        "import os, sys\n"
        "print(__name__, __file__, sys.argv, os.environ['MODE'])\n"
        "open('/root/out/r.bin', 'wb').write(open('/root/out/data.bin', 'rb').read()[::-1])\n"
        "raise SystemExit('no good')\n"
    )
    words = ["--put", f"{data}:/root/out/", "--get", f"/root/out/r.bin:{result}", "--env", "MODE=fast"]
    done = prong("run", str(program), *words, "--", "x")
    assert done.stdout == b"__main__ job.py ['job.py', 'x'] fast\n"
    assert (done.returncode, done.stderr) == (1, b"no good\n")
    assert result.read_bytes() == data.read_bytes()[::-1]


def test_code_from_standard_input_leaves_none_for_the_program() -> None:
    done = prong("run", "-", stdin=b"import sys; print(repr(sys.stdin.read()), sys.argv)")
    assert (done.returncode, done.stdout) == (0, b"'' ['-']\n")


def test_output_streams_and_input_reaches_the_program() -> None:
    """The first line must arrive before the program can go on: it waits for an answer to it."""
    code = "import sys\nprint('ready', flush=True)\nprint('got', input())\nprint(sys.stdin.read().upper())"
    with Running("run", code) as running:
        assert running.line() == "ready\n"
        running.send("one\n")
        assert running.line() == "got one\n"
        running.send("two")
        assert running.end() == (0, "TWO\n", "")


def test_ctrl_c_interrupts_and_again_kills() -> None:
    patient = "import time\nprint('ready', flush=True)\ntry:\n    time.sleep(1000)\nexcept KeyboardInterrupt:\n    "
    with Running("run", patient + "print('cleaned up', flush=True)\n    raise") as running:
        assert running.line() == "ready\n"
        running.process.send_signal(signal.SIGINT)
        status, out, err = running.end()
        assert (status, out) == (130, "cleaned up\n") and "KeyboardInterrupt" in err
    with Running("run", patient + "print('no', flush=True)\n    while True: pass") as running:
        assert running.line() == "ready\n"
        running.process.send_signal(signal.SIGINT)
        assert running.line() == "no\n"
        running.process.send_signal(signal.SIGINT)
        status, out, err = running.end()
        assert (status, out) == (137, "") and "SIGKILL" in err


def test_a_reader_that_goes_away_ends_the_program() -> None:
    command = [PRONG, "run", "while True: print('y')"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert (process.wait(HANG_S), process.stderr.read()) == (141, b"")


@pytest.mark.parametrize(
    ("code", "words", "status", "said"),
    [
        ("while True: pass", ("--timeout", "0.5"), 124, "wall limit of 0.5 s reached"),
        ("while True: pass", ("--cpu", "0.3"), 152, "cpu limit of 0.3 s reached"),
        ("while True: print('x' * 99)", ("--output-limit", "1K"), 153, "output limit of 1K reached"),
        ("import os; os.kill(os.getpid(), 9)", (), 137, "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", (), 139, "SIGSEGV"),
    ],
)
def test_ends_that_are_named(code: str, words: tuple[str, ...], status: int, said: str) -> None:
    done = prong("run", code, *words)
    assert (done.returncode, said in done.stderr.decode()) == (status, True), done.stderr.decode()
    assert len(done.stdout) <= 1024


def test_a_status_of_its_own_needs_no_words() -> None:
    done = prong("run", "import os; os._exit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_a_refusal_comes_with_advice() -> None:
    code = "import os\ntry: os.fork()\nexcept OSError as e: print(type(e).__name__)"
    done = prong("run", code)
    assert (done.returncode, done.stdout) == (0, b"PermissionError\n")
    assert done.stderr.decode().startswith("refused: ") and "use a machine" in done.stderr.decode()


def test_json_is_the_whole_execution() -> None:
    code = "import sys; print(input()); print('e', file=sys.stderr); display({'a': 1}); 1/0"
    document = prong_json("run", code, stdin=b"in\n", status=1)
    assert document["stdout"] == "in\n" and document["stderr"].startswith("e\nTraceback")
    assert document["error"]["name"] == "ZeroDivisionError" and document["exit_code"] == 1
    assert document["results"][0]["text"] == "{'a': 1}" and document["limit"] is None
    limited = prong_json("run", "while True: pass", "--timeout", "0.3", status=124)
    assert limited["limit"] == {"name": "wall", "allowed": 0.3}


def test_memory_is_the_templates(template: Template) -> None:
    has = template.stored.manifest.limits["memory"]
    assert prong("run", "print(1)", "--memory", str(has)).stdout == b"1\n"
    done = prong("run", "print(1)", "--memory", "3G")
    assert (done.returncode, done.stdout) == (2, b"") and "prong template create NAME --memory 3G" in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("run", "nothing-here.py"), 1, "not_found"),
        (("run", "1", "--template", "nothing-here"), 1, "not_found"),
        (("run", "1", "--from-snapshot", "nothing"), 1, "not_found"),
        (("run", "1", "--put", "nothing-here:/root/"), 1, "not_found"),
        (("run", "1", "--get", "/nothing-here:/tmp/x"), 1, "not_found"),
        (("run", "1", "--env", "A"), 2, "invalid_input"),
        (("run", "1", "--output-limit", "much"), 2, "invalid_input"),
    ],
)
def test_errors(words: tuple[str, ...], status: int, code: str) -> None:
    done = prong(*words)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.decode().startswith(f"error [{code}]: ")
