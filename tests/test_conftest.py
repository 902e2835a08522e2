"""The checks ``conftest.py`` makes of a whole run, seen to work on nested runs that leave something behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prong.doctor.namespaces import try_namespaces

CONFTEST = Path(__file__).with_name("conftest.py")
FAKE_PROBE = """
from prong.kvm import probe
probe.kvm_verdict = lambda: probe.Verdict({usable}, "this is only a test")
"""


def nested(folder: Path, test: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit status and output of pytest on one test file beside a copy of our conftest with a short grace."""
    text = CONFTEST.read_text()
    assert "GRACE_S = 5.0" in text
    (folder / "conftest.py").write_text(text.replace("GRACE_S = 5.0", "GRACE_S = 0.2"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = kvm: needs KVM\nfilterwarnings = error\n")
    (folder / "test_nested.py").write_text(test)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize(("usable", "line"), [(True, "2 ran, 0 skipped"), (False, "0 ran, 2 skipped")])
def test_kvm_tests_are_counted(tmp_path: Path, usable: bool, line: str, workers: tuple[str, ...]) -> None:
    (tmp_path / "fake_probe.py").write_text(FAKE_PROBE.format(usable=usable))
    test = (
        "import pytest\n"
        "@pytest.mark.kvm\ndef test_a(): pass\n"
        "@pytest.mark.kvm\ndef test_b(): pass\n"
        "def test_kvm_only_by_name(): pass\n"
    )
    status, output = nested(tmp_path, test, "-p", "fake_probe", *workers)
    assert status == 0, output
    assert f"KVM tests: {line}\n" in output
    assert ("this is only a test" in output) is not usable


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_clean_run_passes(tmp_path: Path, workers: tuple[str, ...]) -> None:
    status, output = nested(tmp_path, "import subprocess\ndef test_a(): subprocess.run(['true'])\n", *workers)
    assert status == 0, output
    assert "LEFT BEHIND" not in output


def test_a_child_left_behind_is_found_even_after_a_double_fork(tmp_path: Path) -> None:
    # The shell ends at once; its sleep is an orphan, closed off from our pipes.
    shell = "sleep 20 >/dev/null 2>&1 </dev/null & echo $! >pid"
    status, output = nested(tmp_path, f"import subprocess\ndef test_a(): subprocess.run(['sh', '-c', {shell!r}])\n")
    orphan = int((tmp_path / "pid").read_text())
    os.kill(orphan, signal.SIGKILL)
    os.waitpid(orphan, 0)  # ours: the nested run has ended, and this process reaps its descendants
    assert status == 1
    assert "processes left behind by tests" in output and "sleep 20" in output


def test_shared_memory_left_behind_is_found(tmp_path: Path) -> None:
    name = Path(f"/dev/shm/prong-left-behind-{os.getpid()}")
    test = f"import pathlib\ndef test_a(): pathlib.Path({str(name)!r}).touch()\n"
    try:
        status, output = nested(tmp_path, test)
    finally:
        name.unlink(missing_ok=True)
    assert status == 1
    assert f"LEFT BEHIND: {name}" in output


def test_a_mount_left_behind_is_found(tmp_path: Path) -> None:
    if problem := try_namespaces():
        pytest.skip(f"needs namespaces: {problem}")
    point = tmp_path / "point"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "none", str(point)]
    test = f"import subprocess\ndef test_a(): subprocess.run({command}, check=True)\n"
    status, output = nested(tmp_path, test, wrapper=("unshare", "--user", "--map-root-user", "--mount"))
    assert status == 1
    assert f"LEFT BEHIND: mount {point}" in output
