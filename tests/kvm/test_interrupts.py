"""Interrupting a guest at any moment loses nothing of what it was about to tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.kvm
def test_a_fault_raised_when_the_tick_comes_keeps_its_address() -> None:
    """A fault that KVM has raised and not delivered would else hit whatever registers are loaded next, with address 0."""
    script = Path(__file__).with_name("interrupted_faults.py")
    done = subprocess.run([sys.executable, str(script), "4000"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    faults, interrupts, wrong = map(int, done.stdout.split())
    assert faults == 4000 and interrupts > 0 and wrong == 0
