"""The same calls on this machine's kernel and in a cell: the transcripts must not differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prong.cell.process import PID
from tests.cell_task.scenarios import MASK, SCENARIOS, SIZE
from tests.cell_task.world import World

ROOT = Path(__file__).parents[2]


class Cell:
    """A scenario's machine over a :class:`World`; a call that waits is given time until it ends."""

    base = 0x20000
    pid = PID

    def __init__(self) -> None:
        self.world = World()
        self.world.signals.set_mask(self.world.main, MASK)

    def call(self, name: str, *args: int) -> int:
        result = self.world.call(self.world.main, name, *args)
        if result is None:
            self.world.clock.advance(1_000_000)
            result = self.world.run().get(PID)
        assert result is not None, f"{name}{args} does not end"
        return result

    def put(self, offset: int, data: bytes) -> None:
        assert offset + len(data) <= SIZE
        self.world.mem.write(self.base + offset, data)

    def get(self, offset: int, size: int) -> bytes:
        return self.world.mem.read(self.base + offset, size)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="compares with a native x86-64 kernel")
@pytest.mark.parametrize("name", SCENARIOS)
def test_cell_and_kernel_agree(name: str) -> None:
    command = [sys.executable, "-m", "tests.cell_task.scenarios", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    native = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=60)
    ours = json.loads(json.dumps(SCENARIOS[name](Cell())))
    theirs = json.loads(native.stdout)
    assert ours == theirs
