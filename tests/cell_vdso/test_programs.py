"""Programs on a real virtual CPU take their time from the vDSO, and it is the time that system calls tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prong.cell.cpu.timepage import counter_khz
from prong.kvm.device import Kvm

pytestmark = pytest.mark.kvm
ROOT = Path(__file__).parents[2]
MS = 10**6


@pytest.fixture(scope="module", params=["dynamic", "static"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the program with")
    path = tmp_path_factory.mktemp("program") / "program"
    options = ["-static"] if request.param == "static" else []
    source = Path(__file__).with_name("program.c")
    subprocess.run(["gcc", "-O2", *options, "-o", path, source], check=True, timeout=120)
    return path


def in_a_cell(program: Path, *arguments: str, valid: bool | None = None) -> tuple[dict[str, list[float]], int]:
    """The program's lines, and how many system calls it made."""
    command = [sys.executable, "-m", "tests.cell_vdso.count", str(program), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *lines, calls, end = done.stdout.splitlines()
    assert end == "[0: exited with code 0]"
    counted = re.fullmatch(rf"\[(\d+) calls, page valid: {usable() if valid is None else valid}\]", calls)
    assert counted, calls
    return {name: [float(v) for v in values] for name, *values in map(str.split, lines)}, int(counted[1])


def usable() -> bool:
    kvm = Kvm()
    try:
        return counter_khz(kvm) > 0
    finally:
        kvm.close()


def test_it_is_the_time_that_system_calls_tell(program: Path) -> None:
    lines, _ = in_a_cell(program)
    assert lines["vdso"] == [1] and lines["back"] == [0]
    assert lines["apart"][0] < MS
    assert all(10**9 <= seconds < 10**9 + 60 for seconds in lines["set"])


def test_no_system_call_is_made(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not usable():
        pytest.skip("this host's time-stamp counter does not tell time")
    lines, calls = in_a_cell(program, "cost")
    assert calls < 100  # for 200 000 readings
    with capsys.disabled():
        print(f" [clock_gettime in a cell: {lines['cost'][0]:.0f} ns]", end="")
    assert lines["cost"][0] < 5000  # a system call takes longer on any machine


def test_without_a_usable_counter_everything_is_a_system_call(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COUNTER", "1")
    lines, calls = in_a_cell(program, valid=False)
    assert lines["vdso"] == [1] and lines["back"] == [0] and lines["apart"] == [0]
    assert calls > 1000 and all(10**9 <= seconds < 10**9 + 60 for seconds in lines["set"])
