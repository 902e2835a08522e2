"""Live forks and snapshots of cells in the middle of random system calls: every state there is can be carried over."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from pathlib import Path

import pytest

from prong.cell.engine import Cell, Engine, Template
from prong.cell.limits import MIB, Limits
from prong.errors import Conflict, LimitExceeded, ProngError, SandboxGone

pytestmark = pytest.mark.kvm

GUEST = (Path(__file__).parent / "guest_calls.py").read_text()
ROUNDS = int(os.environ.get("PRONG_FUZZ_STATES", "10"))
ONLY = os.environ.get("PRONG_FUZZ_SEED")
LIMITS = Limits(memory=128 * MIB, overlay=16 * MIB, threads=40)


def carry_over(engine: Engine, cell: Cell, rng: random.Random) -> str:
    """Fork, or save and load; the copies run on for a moment."""
    copies: list[Cell] = []
    try:
        if rng.random() < 0.5:
            copies = cell.fork(rng.randrange(1, 4))
        else:
            snapshot = engine.snapshot(cell)
            try:
                copies = [engine.restore(snapshot, keep_identity=rng.random() < 0.5)]
            finally:
                engine.snapshots.rm(snapshot.id, force=True)
        time.sleep(0.1)
        for copy in copies:
            with contextlib.suppress(SandboxGone):  # its program may write nonsense to its control stream
                copy.stats()
                copy.interrupt()
    except Conflict:
        return "ended"
    finally:
        for copy in copies:
            copy.close()
    return "carried"


def one_round(engine: Engine, template: Template, seed: int) -> list[str]:
    """Carry one busy cell over until its run is over."""
    rng = random.Random(seed)
    steps: list[str] = []
    with template.fork(limits=LIMITS) as cell:
        arguments = ("fuzz", str(seed), "3000", "3")

        def body() -> None:
            with contextlib.suppress(ProngError):
                cell.run(GUEST, timeout=2, output=4 << 20, mode="script", argv=arguments)

        thread = threading.Thread(target=body)
        thread.start()
        while thread.is_alive() and len(steps) < 6:
            time.sleep(rng.random() * 0.15)
            try:
                steps.append(carry_over(engine, cell, rng))
            except (SandboxGone, LimitExceeded) as gone:
                assert "protocol" in gone.message, f"seed {seed}, after {steps}: {gone.message} {gone.data}"
                break
        thread.join(60)
        assert not thread.is_alive(), f"seed {seed}: the run does not end"
    return steps


@pytest.mark.timeout(1800)
def test_random_states(engine: Engine, template: Template) -> None:
    steps: list[str] = []
    words = template.spawner.last_words()
    for seed in [int(ONLY)] if ONLY else range(ROUNDS):
        steps += one_round(engine, template, seed)
        assert template.spawner.last_words() == words, f"seed {seed}: {template.spawner.last_words()}"
    print(len(steps), "states")
    assert "carried" in steps
