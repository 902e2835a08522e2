"""A runtime shared by the tests of a module, where a test leaves it as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.harness import GuestProcess, guest


@pytest.fixture(scope="module")
def runtime() -> Iterator[GuestProcess]:
    """A ready runtime; use a context of your own for names that matter."""
    with guest() as process:
        yield process


@pytest.fixture
def fresh() -> Iterator[GuestProcess]:
    """A ready runtime of the test's own, whose control descriptor ``os.closerange`` up to 10,000 leaves open."""
    with guest(control_fd=12_345) as process:
        yield process
