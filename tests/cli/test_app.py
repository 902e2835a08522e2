"""The command line itself: commands, ``--json`` on either side, errors as text and as JSON, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from prong.cli import app as app_module
from prong.cli.app import main
from prong.cli.output import JsonFlag, printable
from prong.errors import InvalidInput, NotFound
from prong.version import __version__

Capture = pytest.CaptureFixture[str]


def a_command(body: Callable[[], None]) -> Callable[[typer.Typer], None]:
    """A command module's ``register``, for a command named ``probe`` that runs ``body``."""

    def probe(as_json: JsonFlag = False) -> None:
        body()

    def register(app: typer.Typer) -> None:
        app.command("probe")(probe)

    return register


def with_probe(monkeypatch: pytest.MonkeyPatch, body: Callable[[], None]) -> None:
    monkeypatch.setattr(app_module, "COMMANDS", (*app_module.COMMANDS, a_command(body)))


def test_version(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"prong {__version__}\n"


@pytest.mark.parametrize("words", [["version", "--json"], ["--json", "version"], ["--json", "version", "--json"]])
def test_json_before_and_after_the_command(words: list[str], capsys: Capture) -> None:
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["prong"] == __version__


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["doctor", "--help"], ["version", "-h"]])
def test_help_shows_an_example(words: list[str], capsys: Capture) -> None:
    assert main(words) == 0
    assert "Example: prong" in capsys.readouterr().out


def test_an_error_says_what_and_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def body() -> None:
        raise NotFound("no image named 'x'", hint="prong image ls", data={"name": "x"})

    with_probe(monkeypatch, body)
    assert main(["probe"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error [not_found]: no image named 'x'\n  prong image ls\n"
    for words in (["probe", "--json"], ["--json", "probe"]):
        assert main(words) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert json.loads(captured.err) == {
            "error": {
                "code": "not_found",
                "message": "no image named 'x'",
                "hint": "prong image ls",
                "data": {"name": "x"},
            }
        }


def test_invalid_input_has_its_own_status(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def body() -> None:
        raise InvalidInput("memory: '12Q' is not a size")

    with_probe(monkeypatch, body)
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == "error [invalid_input]: memory: '12Q' is not a size\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        raise RuntimeError("a bug")

    with_probe(monkeypatch, body)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["probe"])


def test_a_command_chooses_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        raise typer.Exit(7)

    with_probe(monkeypatch, body)
    assert main(["probe"]) == 7


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def body() -> None:
        raise KeyboardInterrupt

    with_probe(monkeypatch, body)
    assert main(["probe"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nonsense"], ["doctor", "--nonsense"], ["version", "extra"]])
def test_wrong_usage(words: list[str], capsys: Capture) -> None:
    assert main(words) == 2
    text = capsys.readouterr()
    assert text.out == "" and text.err.startswith("error [usage]: ") and "--help" in text.err
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_an_error_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def body() -> None:
        raise NotFound("no file '\x1b[2J\x9b[bold]x\r'", hint="\x07")

    with_probe(monkeypatch, body)
    assert main(["probe"]) == 1
    assert capsys.readouterr().err == "error [not_found]: no file '\\x1b[2J\\x9b[bold]x\\x0d'\n  \\x07\n"


def test_printable_keeps_lines_tabs_and_letters() -> None:
    assert printable("a\tb\nç 漢 \x7f") == "a\tb\nç 漢 \\x7f"


def test_the_installed_command_and_a_closed_pipe() -> None:
    """A reader that goes away is no traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "import sys; from prong.cli.app import main; sys.exit(main())", "version"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert "Traceback" not in done.stderr
