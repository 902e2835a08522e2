"""The whole look at a host: this one, and one that is no Linux."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from prong.doctor import Report, Status, examine, namespaces
from prong.doctor.check import fail, ok, warn


def test_this_host(tmp_path: Path) -> None:
    report = examine(tmp_path)
    names = [check.name for check in report.checks]
    assert len(names) == len(set(names)) == 16, names
    assert {"kvm", "kvm device", "namespaces", "disk", "qemu"} <= set(names)
    python = next(check for check in report.checks if check.name == "python")
    assert python.found == platform.python_version().rstrip("+")
    disk = next(check for check in report.checks if check.name == "disk")
    assert str(tmp_path) in disk.found


def test_another_system_is_told_so_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    report = examine()
    assert [(check.name, check.status) for check in report.checks] == [("kernel", Status.FAIL)]
    assert not report.cells


def test_only_a_failed_check_stops_cells() -> None:
    assert Report((ok("a", "x"), warn("b", "y", "do z"))).cells
    assert not Report((ok("a", "x"), fail("b", "y", "do z"))).cells


def test_json_shape() -> None:
    assert Report((warn("b", "y", "do z"),)).as_json() == {
        "cells": True,
        "checks": [{"name": "b", "status": "warn", "found": "y", "advice": "do z"}],
    }


def test_namespaces_are_tried_in_a_child_only() -> None:
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt", "pid", "net", "ipc")}
    mounts = Path("/proc/self/mountinfo").read_text()
    problem = namespaces.try_namespaces()
    assert {name: os.readlink(f"/proc/self/ns/{name}") for name in before} == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert "\n" not in problem


def run_namespaces(prelude: str) -> subprocess.CompletedProcess[str]:
    code = f"{prelude}\nfrom prong.doctor.namespaces import try_namespaces\nprint(try_namespaces())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)


def test_namespaces_refused_are_reported_in_one_line() -> None:
    # A limit of 0 inside a user namespace of our own stands for a host that allows none (namespaces(7)).
    if problem := namespaces.try_namespaces():
        pytest.skip(f"this host refuses them already: {problem}")
    prelude = (
        "import ctypes, os\n"
        "uid, gid = os.getuid(), os.getgid()\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "open('/proc/self/setgroups', 'w').write('deny')\n"
        "open('/proc/self/uid_map', 'w').write(f'0 {uid} 1')\n"
        "open('/proc/self/gid_map', 'w').write(f'0 {gid} 1')\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
    )
    assert run_namespaces(prelude).stdout == "unshare(CLONE_NEWUSER): No space left on device\n"
