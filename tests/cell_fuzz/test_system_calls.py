"""Fuzzing the kernel layer through real cells: random calls, pointers, lengths and flags from several threads.

Seeded and replayable: a failure names its seed; ``PRONG_FUZZ_SEED=n`` runs that one alone. ``PRONG_FUZZ_CALLS`` sets the
number of calls in total (20,000 by default; 200,000 and more for a full run).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from prong.cell.engine import Template
from prong.cell.limits import MIB, Limits
from prong.errors import SandboxGone
from tests.cell_engine.processes import descendants, eventually

pytestmark = pytest.mark.kvm

GUEST = (Path(__file__).parent / "guest_calls.py").read_text()
TOTAL = int(os.environ.get("PRONG_FUZZ_CALLS", "20000"))
ONLY = os.environ.get("PRONG_FUZZ_SEED")
LIMITS = Limits(memory=128 * MIB, overlay=16 * MIB, threads=40)


def one_round(template: Template, seed: int) -> tuple[int, str]:
    """Run one seed in a fork; returns the number of system calls the program made, and how it ended."""
    with template.fork(limits=LIMITS) as cell:
        before = cell.stats()["syscalls"]
        started = time.monotonic()
        done = cell.run(GUEST, timeout=2, output=4 << 20, mode="script", argv=("fuzz", str(seed), "1500", "3"))
        took = time.monotonic() - started
        assert took < 60, f"seed {seed}: the call took {took:.0f} s with a limit of 2"
        try:
            end = done.ended or ("limit " + done.limit.name if done.limit else done.error.name if done.error else "end")
            return cell.stats()["syscalls"] - before, end
        except SandboxGone as gone:
            # The program found its control stream and wrote nonsense to it: reported, and the end of this cell only.
            assert "protocol" in gone.message, f"seed {seed}: {gone.message}; {done.ended}"
            return 0, "control stream"


@pytest.mark.timeout(3600)
def test_random_calls(template: Template) -> None:
    before = descendants(template.spawner.process.pid)
    words = template.spawner.last_words()
    calls = 0
    ends: dict[str, int] = {}
    seed = int(ONLY or 0)
    while calls < TOTAL:
        count, end = one_round(template, seed)
        calls += count
        ends[end] = ends.get(end, 0) + 1
        said = template.spawner.last_words()
        assert said == words, f"seed {seed}: a host wrote {said[-3000:]}"
        seed += 1
        if ONLY is not None:
            break
    print(f"{calls} calls, {seed} seeds, {ends}")
    assert eventually(lambda: descendants(template.spawner.process.pid) <= before), "no process is left"
    with template.fork() as cell:
        assert cell.run("1").text == "1"
