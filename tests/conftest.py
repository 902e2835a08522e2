"""What every test has: the ``kvm`` marker, its count at the end, and a check that nothing is left behind.

A test marked ``kvm`` runs only where KVM really runs a guest. The check for leftovers has two halves: each process
that runs tests must have no child left (it is made the reaper of its descendants, so a double fork does not hide);
the whole run must leave nothing named ``prong…`` in /dev/shm and no new mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A copy of this file elsewhere (tests/test_conftest.py makes some) goes without the fixtures for cells.
pytest_plugins = ["tests.cell_support"] if (Path(__file__).parent / "cell_support.py").exists() else []

GRACE_S = 5.0  # what is on its way out may need a moment
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
KVM_TEST = "kvm_test"  # in a report's user_properties: those cross from xdist's workers, markers do not
SHM = Path("/dev/shm")

_before = pytest.StashKey[tuple[frozenset[str], frozenset[str]]]()
_leaks = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember what was there before; become the reaper of whatever the tests start.

    A shell ignores SIGINT for what it starts in the background, and children inherit that; some tests send it to theirs.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_before] = (_shm_names(), _mounts())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need KVM, with the reason, where it runs no guest."""
    marked = [item for item in items if item.get_closest_marker("kvm")]
    if not marked:
        return
    from prong.kvm.probe import kvm_verdict  # runs a guest: only when a test asks for one

    verdict = kvm_verdict()
    for item in marked:
        item.user_properties.append((KVM_TEST, True))
        if not verdict.usable:
            item.add_marker(pytest.mark.skip(reason=f"KVM is not usable here: {verdict.reason}"))


@pytest.fixture(scope="session", autouse=True)
def _no_child_left() -> Iterator[None]:
    """Fail the session if a process that a test started is still alive when all tests are done."""
    before = _children()
    yield
    left = _settled(lambda: _children() - before)
    assert not left, f"processes left behind by tests: {sorted(left)}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look for what outlived the whole run; once, in the process that started it."""
    if hasattr(session.config, "workerinput"):
        return
    shm, mounts = session.config.stash[_before]
    leaks = [f"/dev/shm/{name}" for name in _settled(lambda: _unheld(_shm_names() - shm))]
    leaks += [f"mount {point}" for point in _settled(lambda: _mounts() - mounts)]
    session.config.stash[_leaks] = sorted(leaks)
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many KVM tests ran, and what the run left behind."""
    skipped = _kvm_tests(terminalreporter, "skipped")
    everything = {test for kind in terminalreporter.stats for test in _kvm_tests(terminalreporter, kind)}
    terminalreporter.write_line(f"KVM tests: {len(everything - skipped)} ran, {len(skipped)} skipped")
    for leak in config.stash.get(_leaks, []):
        terminalreporter.write_line(f"LEFT BEHIND: {leak}", red=True)


def _kvm_tests(reporter: pytest.TerminalReporter, kind: str) -> set[str]:
    """Ids of the KVM tests among the reports of one kind (``passed``, ``skipped``, ``""`` for quiet phases, …)."""
    return {
        report.nodeid
        for report in reporter.stats.get(kind, [])
        if (KVM_TEST, True) in map(tuple, getattr(report, "user_properties", ()))
    }


def _settled(look: Callable[[], frozenset[str]]) -> frozenset[str]:
    """What ``look`` finds, once it finds nothing or the grace is over."""
    deadline = time.monotonic() + GRACE_S
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _shm_names() -> frozenset[str]:
    return frozenset(path.name for path in SHM.glob("prong*")) if SHM.is_dir() else frozenset()


def _unheld(names: frozenset[str]) -> frozenset[str]:
    """Those of ``names`` in /dev/shm that no live process has open or mapped: a held one is another run's."""
    if not names:
        return names
    held = "\n".join(_held_files())
    return frozenset(name for name in names if f"{SHM}/{name}" not in held)


def _held_files() -> Iterator[str]:
    """Paths below /dev/shm that some process maps or has open; processes that end or are not ours to see are passed."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield from (line for line in (process / "maps").read_text().splitlines() if f"{SHM}/" in line)
        with contextlib.suppress(OSError):
            yield from (os.readlink(fd) for fd in (process / "fd").iterdir() if os.readlink(fd).startswith(f"{SHM}/"))


def _mounts() -> frozenset[str]:
    """Mount points of this process's mount namespace (proc(5): the fifth field)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(line.split(" ")[4] for line in lines)


def _children() -> frozenset[str]:
    """Live children of this process, as ``pid: command``; dead ones and multiprocessing's own helper do not count."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # proc_pid_stat(5): pid (comm) state ppid …; comm may hold anything, so cut at its last parenthesis.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_text().replace("\0", " ").strip()
            if int(parent) == os.getpid() and state != "Z" and "multiprocessing.resource_tracker" not in command:
                found.add(f"{entry.name}: {command[:200]}")
    return frozenset(found)
