"""A C program full of threads, signals and timers does the same in a cell, on a real virtual CPU, as on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kvm
ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("program.c")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the program with")
    path = tmp_path_factory.mktemp("program") / "program"
    subprocess.run(["gcc", "-O1", "-w", "-pthread", "-o", path, SOURCE, "-lm"], check=True, timeout=120)
    return path


def in_a_cell(program: Path, *arguments: str) -> tuple[list[str], str]:
    """Output lines, and how it ended."""
    command = [sys.executable, "-m", "tests.cell_task.run_program", str(program), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *lines, end = done.stdout.splitlines()
    return lines, end


def test_the_same_lines(program: Path) -> None:
    native = subprocess.run([program], capture_output=True, text=True, timeout=60, env={"LC_ALL": "C"})
    lines, end = in_a_cell(program)
    assert lines == native.stdout.splitlines()
    assert native.returncode == 7 and end == f"[{7 << 8}: exited with code 7]"


def test_abort(program: Path) -> None:
    assert in_a_cell(program, "abort") == ([], "[6: terminated by SIGABRT]")


def test_a_null_dereference_is_reported_exactly(program: Path) -> None:
    lines, end = in_a_cell(program, "null")
    assert lines == [] and end.startswith("[11: SIGSEGV at 0x")
    assert " reading 0x0: no mapping; instruction in program+0x" in end


def test_the_process_outlives_its_first_thread(program: Path) -> None:
    lines, end = in_a_cell(program, "leader")
    assert lines == ["still here"] and end == "[0: exited with code 0]"
