from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.image import ImageStore, debian
from prong.store.paths import Paths

FAKE = Path(__file__).with_name("fake_mmdebstrap")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "home").ensure()


@pytest.fixture
def store(paths: Paths) -> ImageStore:
    return ImageStore(paths)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory, first on PATH, with a stand-in for mmdebstrap; files put there steer it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(FAKE, folder / "mmdebstrap")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    # The one mode that needs nothing of the host; the stand-in treats all alike.
    monkeypatch.setattr(debian, "choose_mode", lambda: "fakechroot")
    yield folder


def small_root(folder: Path) -> Path:
    """A directory that looks like a root file system, small."""
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "bin").symlink_to("usr/bin")
    (folder / "etc").mkdir()
    (folder / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    (folder / "usr/bin/hello").write_text("#!/bin/sh\necho hello\n")
    (folder / "usr/bin/hello").chmod(0o700)
    os.link(folder / "usr/bin/hello", folder / "usr/bin/hello2")
    (folder / "etc/secret").write_text("s")
    (folder / "etc/secret").chmod(0o600)
    return folder
