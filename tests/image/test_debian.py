from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from prong.errors import BuildFailed, HostUnfit
from prong.image import BuildEvent, ImageSpec, ImageStore, Stage, debian


def test_without_mmdebstrap_the_hint_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostUnfit) as caught:
        debian.choose_mode()
    assert caught.value.hint == "apt install mmdebstrap"


def test_an_ordinary_user_without_namespaces_or_fakechroot_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mmdebstrap").write_text("#!/bin/sh\n")
    (tmp_path / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(HostUnfit) as caught:
        debian.choose_mode()
    assert "/etc/subuid" in caught.value.hint
    for name in ("fakechroot", "fakeroot"):
        shutil.copy(tmp_path / "mmdebstrap", tmp_path / name)
    assert debian.choose_mode() == "fakechroot"


def test_packages_are_what_dpkg_lists_as_installed(tmp_path: Path) -> None:
    assert debian.installed_packages(tmp_path) == ()
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: zlib\nStatus: install ok installed\nVersion: 1:2\nDescription: x\n Version: no\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: apt\nStatus: install ok installed\nVersion: 3\n"
    )
    listed = debian.installed_packages(tmp_path)
    assert [(package.name, package.version) for package in listed] == [("apt", "3"), ("zlib", "1:2")]


def test_host_apt_options_hold_only_how_to_reach_archives() -> None:
    assert all(line.startswith("Acquire::") and line.endswith(";") for line in debian.host_apt_options())


def real_mmdebstrap() -> str:
    """Why the real program cannot be used here; empty when it can."""
    try:
        debian.choose_mode()
    except HostUnfit as unfit:
        return unfit.message
    reach = subprocess.run(["apt-get", "--print-uris", "-qq", "download", "hostname"], capture_output=True, check=False)
    return "" if reach.returncode == 0 and reach.stdout else "apt has no package lists here: run apt-get update"


@pytest.mark.slow
def test_a_real_debian_image_builds_twice_to_one_digest(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := real_mmdebstrap():
        pytest.skip(reason)
    raw = {
        "name": "busybox",
        "packages": ["busybox-static"],
        "exclude": ["/usr/share/*"],
        "files": {"/srv/in.txt": {"content": "from the spec\n"}},
        "run": ['cat /srv/in.txt "$NAME" > out.txt; id -u >> out.txt', "test ! -e /nonsense"],
        "env": {"NAME": "/etc/hostname"},
        "workdir": "/srv",
    }
    spec = ImageSpec.parse(raw, where="test")
    stages: list[Stage] = []

    def watch(event: BuildEvent) -> None:
        if event.stage not in stages:
            stages.append(event.stage)

    image = store.build(spec, progress=watch)
    assert stages == [
        Stage.RESOLVE, Stage.DOWNLOAD, Stage.INSTALL, Stage.UNPACK, Stage.FILES, Stage.RUN, Stage.SEAL, Stage.DONE
    ]  # fmt: skip
    assert (image.root / "srv/out.txt").read_text().splitlines()[0] == "from the spec"
    assert (image.root / "srv/out.txt").read_text().splitlines()[-1] == "0"
    assert (image.root / "usr/bin/busybox").stat().st_size > 500_000
    assert "busybox-static" in {package.name for package in image.manifest.packages}
    assert not (image.root / "usr/share/man").exists()
    ran = subprocess.run([image.root / "usr/bin/busybox", "echo", "hello"], capture_output=True, check=True)
    assert ran.stdout == b"hello\n"
    # Another day's build of the same packages is the same image.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1_900_000_000))
    assert store.build(spec, force=True).digest == image.digest


@pytest.mark.slow
def test_a_failing_command_ends_the_build_with_its_output(store: ImageStore) -> None:
    if reason := real_mmdebstrap():
        pytest.skip(reason)
    spec = ImageSpec(name="broken", run=("echo so far; false", "touch /never"))
    with pytest.raises(BuildFailed) as caught:
        store.build(spec)
    log = caught.value.data["log"]
    assert isinstance(log, list) and "so far" in log
    assert store.list() == ()
