"""``prong repl`` for real: through a pipe as programs use it, and on a pseudo-terminal as people do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.terminal import HANG_S, PRONG, environment, prong, prong_json

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("template")]


def lines(*typed: str) -> bytes:
    return "\n".join((*typed, "")).encode()


def test_forks_keep_their_own_state_and_the_tree_shows_them() -> None:
    typed = lines("x = 1", ":fork kid", "x += 41", "x", ":back", "x", "for i in range(2):", "    print(i)", "", ":tree")
    done = prong("repl", stdin=typed)
    assert (done.returncode, done.stderr) == (0, b"")
    out = re.sub(r"\bc\d+", "cN", done.stdout.decode()).splitlines()
    assert out == [
        "cN → cN: a fork with all its state; :back returns", "42", "in cN", "1", "0", "1",
        "template python", "└── cN  ← you are here", "    └── cN kid",
    ]  # fmt: skip


def test_snapshot_and_rollback_and_the_snapshot_commands(tmp_path: Path) -> None:
    made = prong_json("repl", stdin=lines("x = 'kept'", ":snapshot test_repl", "x = 'lost'"))
    snapshot = made["tree"]["children"][0]["children"][0]
    assert snapshot["kind"] == "snapshot" and snapshot["label"] == "test_repl"
    name, file = snapshot["id"], tmp_path / "saved.prong"
    try:
        done = prong("repl", stdin=lines("x = 'other'", f":rollback {name[:8]}", "x"))
        assert done.stdout.decode().splitlines()[-1] == "'kept'"
        assert prong("run", "import __main__, sys; print('fresh')", "--from-snapshot", name).stdout == b"fresh\n"
        assert prong("repl", "--from-snapshot", name, stdin=lines("x")).stdout == b"'kept'\n"
        assert name in [s["id"] for s in prong_json("snapshot", "ls")["snapshots"]]
        assert name in prong("snapshot", "tree").stdout.decode()
        assert prong_json("snapshot", "inspect", name)["note"] == "test_repl"
        assert prong_json("export", name, str(file))["size_bytes"] == file.stat().st_size
        assert prong("export", name, str(file)).returncode == 1
    finally:
        prong("snapshot", "rm", name)
    assert prong("snapshot", "inspect", name).returncode == 1
    try:
        assert prong("import", str(file)).stdout.decode().strip() == name
        assert prong("repl", "--from-snapshot", name, stdin=lines("x")).stdout == b"'kept'\n"
    finally:
        prong("snapshot", "rm", name)


def test_errors_results_and_an_ended_cell(tmp_path: Path) -> None:
    typed = lines("1/0", ":nonsense", "display({'a': 1})", "input()", "import os; os._exit(2)", "1", ":fork")
    done = prong("repl", "--pictures", str(tmp_path), stdin=typed)
    err = done.stderr.decode()
    assert done.returncode == 0
    for said in ("ZeroDivisionError: division by zero", "error [invalid_input]", "EOFError", "error [conflict]"):
        assert said in err
    assert done.stdout.decode().splitlines()[0] == "{'a': 1}" and "has ended" in done.stdout.decode()


def test_a_data_frame_and_a_picture(tmp_path: Path) -> None:
    typed = lines(
        "import pandas, matplotlib.pyplot as plt", "pandas.DataFrame({'a': [1, 2], 'b': ['u', 'v']})", "_ = plt.plot([1, 2])"
    )
    done = prong("repl", "--pictures", str(tmp_path), stdin=typed)
    out = done.stdout.decode().splitlines()
    assert [line.split() for line in out[:3]] == [["a", "b"], ["0", "1", "u"], ["1", "2", "v"]]
    assert out[3] == f"png saved to {tmp_path}/1.png"
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_json_has_what_each_input_did() -> None:
    document = prong_json("repl", stdin=lines("1 + 1", ":fork", "[", ":nonsense"))
    first, fork, third, *_ = document["inputs"]
    assert first["code"] == "1 + 1" and first["results"][0]["text"] == "2" and first["exit_code"] == 0
    assert fork["command"] == ":fork" and document["tree"]["children"][0]["children"][0]["id"] == fork["cell"]
    assert third["code"].startswith("[") and third["error"]["name"] == "SyntaxError"


@pytest.fixture
def typist() -> Iterator[pexpect.spawn[str]]:
    """The repl on a pseudo-terminal, at its first prompt."""
    child = pexpect.spawn(PRONG, ["repl"], env=environment(), timeout=HANG_S, encoding="utf-8", dimensions=(40, 160))
    child.logfile_read = sys.stdout  # pytest shows it when a test fails
    child.expect(r"c\d+ >>> ")
    yield child
    child.close(force=True)


def test_on_a_terminal(typist: pexpect.spawn[str]) -> None:
    typist.sendline("total = 0")
    typist.expect(">>> ")
    typist.sendline("while True: total += 1; total == 1 and print('spin' + 'ning', flush=True)")
    typist.expect(r"\.\.\. ")
    typist.sendline("")  # the blank line that ends a block
    typist.expect("spinning")
    typist.sendintr()
    typist.expect("KeyboardInterrupt")
    typist.expect(">>> ")
    typist.sendline("total > 0, 'state kept'")
    typist.expect(r"\(True, 'state kept'\)")
    typist.expect(">>> ")
    typist.sendline("name = input('name? ')")
    typist.expect(r"name\? ")
    typist.sendline("Ada")
    typist.expect(">>> ")
    typist.send("na\t")
    typist.expect("name")
    typist.sendline(" + '!'")
    typist.expect("'Ada!'")
    typist.expect(">>> ")
    typist.sendline("half a line")
    typist.expect("SyntaxError")
    typist.expect(">>> ")
    typist.send("forget this")
    typist.expect("forget this")  # echoed: the line editor is reading
    typist.sendintr()
    typist.expect(">>> ")
    typist.sendline(":fork")
    typist.expect("a fork with all its state")
    typist.expect(r"c\d+ >>> ")
    typist.sendeof()
    typist.expect(pexpect.EOF)
    typist.wait()
    assert typist.exitstatus == 0
