"""``prong cell exec`` for real: programs of the image that are not Python, byte for byte."""

from __future__ import annotations

import hashlib
import random
import signal
from pathlib import Path

import pytest

from tests.cli.terminal import Running, prong, prong_json

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("template")]
DATA = random.Random(11).randbytes(300_000)


def test_a_file_put_in_is_read_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    done = prong("cell", "exec", "python", "--put", f"{tmp_path}/data:/tmp/", "--", "/usr/bin/sha256sum", "/tmp/data")
    expected = f"{hashlib.sha256(DATA).hexdigest()}  /tmp/data\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


def test_streams_carry_bytes() -> None:
    done = prong("cell", "exec", "python", "--", "cat", stdin=DATA)
    assert (done.returncode, done.stdout == DATA, done.stderr) == (0, True, b"")


def test_status_environment_and_directory() -> None:
    script = 'echo "$A $PWD"; echo err >&2; exit 5'
    done = prong("cell", "exec", "python", "--env", "A=x y", "--cwd", "/tmp", "--", "bash", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"x y /tmp\n", b"err\n")


def test_a_killed_program_says_so() -> None:
    done = prong("cell", "exec", "python", "--", "bash", "-c", "kill -9 $$")
    assert done.returncode == 137 and "SIGKILL" in done.stderr.decode()


def test_a_program_that_takes_too_long() -> None:
    done = prong("cell", "exec", "python", "--timeout", "0.5", "--", "sleep", "1000")
    assert (done.returncode, done.stderr) == (124, b"stopped: wall limit of 0.5 s reached\n")


def test_ctrl_c_reaches_the_program() -> None:
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do :; done"
    with Running("cell", "exec", "python", "--", "bash", "-c", script) as running:
        assert running.line() == "ready\n"
        running.process.send_signal(signal.SIGINT)
        assert running.end() == (9, "caught\n", "")


def test_json() -> None:
    document = prong_json("cell", "exec", "python", "--", "bash", "-c", "echo out; ls", status=126)
    assert document["stdout"] == "out\n" and document["exit_code"] == 126
    assert document["ending"]["code"] == 126 and document["ending"]["usage"]["syscalls"] > 0
    assert document["refused"][0]["kind"] == "process" and document["limit"] is None


@pytest.mark.parametrize("words", [("no-such-image", "--", "ls"), ("python", "--", "no-such"), ("python", "--", "/no/such")])
def test_what_is_not_there(words: tuple[str, ...]) -> None:
    done = prong("cell", "exec", *words)
    assert (done.returncode, done.stdout) == (1, b"") and done.stderr.decode().startswith("error [not_found]: ")
