from __future__ import annotations

import base64
import hashlib
import os
import platform
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.errors import BuildFailed, HostUnfit, InvalidInput
from prong.image import bytecode, tree
from prong.image.events import silent
from prong.image.process import Runner
from prong.image.wheels import Target, install_requirements

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
METADATA = "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"


def make_wheel(folder: Path, *, tag: str = "py3-none-any", extra: dict[str, str] | None = None) -> Path:
    """A wheel with one module and one console script, and a RECORD as the format wants it."""
    files = {
        "greet.py": "def main():\n    print('hello')\n",
        "greet-1.0.dist-info/METADATA": METADATA,
        "greet-1.0.dist-info/WHEEL": WHEEL.format(tag=tag),
        "greet-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet = greet:main\n",
        **(extra or {}),
    }
    path = folder / f"greet-1.0-{tag}.whl"
    folder.mkdir(exist_ok=True)
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        wheel.writestr("greet-1.0.dist-info/RECORD", record + "greet-1.0.dist-info/RECORD,,\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The parts of a Debian root that an installation looks at."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3").symlink_to(f"python{VERSION}")
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text("Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n")
    return root


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    lock = os.open(tmp_path, os.O_RDONLY)
    yield Runner(log=tmp_path / "log", lock_fd=lock, epoch=0, scratch=tmp_path)
    os.close(lock)


def install(root: Path, runner: Runner, *requirements: str) -> None:
    work = root.parent / "work"
    work.mkdir()
    install_requirements(requirements, root, work=work, runner=runner, progress=silent)


def test_a_wheel_is_laid_out_for_the_images_python(root: Path, runner: Runner, tmp_path: Path) -> None:
    make_wheel(tmp_path / "links")
    install(root, runner, "greet==1.0")
    library = root / f"usr/local/lib/python{VERSION}/dist-packages"
    assert (library / "greet.py").is_file()
    assert (root / "usr/local/bin/greet").read_text().startswith("#!/usr/bin/python3\n")
    assert (library / "greet-1.0.dist-info/INSTALLER").read_text() == "prong\n"
    tree.seal(root, epoch=1_700_000_000)
    assert bytecode.stamp(root) == 1
    for compiled in library.rglob("*.pyc"):
        assert str(tmp_path).encode() not in compiled.read_bytes()


def test_two_installations_give_one_digest(root: Path, runner: Runner, tmp_path: Path) -> None:
    make_wheel(tmp_path / "links")
    install(root, runner, "greet")
    tree.seal(root, epoch=1_700_000_000)
    bytecode.stamp(root)
    first = tree.measure(root, {})
    (tmp_path / "work").rename(tmp_path / "work1")
    library = root / "usr/local"
    library.rename(tmp_path / "old")
    install(root, runner, "greet")
    tree.seal(root, epoch=1_800_000_000)
    bytecode.stamp(root)
    assert tree.measure(root, {}) == first


def test_compiled_wheels_are_chosen_by_the_images_glibc(root: Path, runner: Runner, tmp_path: Path) -> None:
    abi, machine = f"cp{VERSION.replace('.', '')}", platform.machine()
    make_wheel(tmp_path / "links", tag=f"{abi}-{abi}-manylinux_2_37_{machine}")
    with pytest.raises(BuildFailed) as caught:
        install(root, runner, "greet")
    log = caught.value.data["log"]
    assert isinstance(log, list) and any("No matching distribution" in str(line) for line in log)
    (tmp_path / "work").rename(tmp_path / "work1")
    make_wheel(tmp_path / "links", tag=f"{abi}-{abi}-manylinux_2_36_{machine}")
    install(root, runner, "greet")


def test_source_distributions_are_refused(root: Path, runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/greet-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(BuildFailed):
        install(root, runner, "greet")


def test_a_wheel_cannot_write_outside_the_image(root: Path, runner: Runner, tmp_path: Path) -> None:
    make_wheel(tmp_path / "links", extra={"../" * 12 + str(tmp_path / "evil").lstrip("/"): "x"})
    with pytest.raises(BuildFailed):
        install(root, runner, "greet")
    assert not (tmp_path / "evil").exists()


def test_pip_needs_python_in_the_image(root: Path, runner: Runner) -> None:
    (root / "usr/bin/python3").unlink()
    with pytest.raises(InvalidInput) as caught:
        install(root, runner, "greet")
    assert caught.value.data["field"] == "pip"


def test_pip_needs_a_host_python_of_the_same_version(root: Path, runner: Runner) -> None:
    (root / "usr/bin/python3").unlink()
    (root / "usr/bin/python3").symlink_to("python3.99")
    with pytest.raises(HostUnfit) as caught:
        install(root, runner, "greet")
    assert "3.99" in caught.value.hint


def test_tags_go_from_newest_to_oldest() -> None:
    tags = Target(version="3.11", glibc_minor=7).tags()
    machine = platform.machine()
    assert [tag for tag in tags if "manylinux_" in tag] == [
        f"--platform=manylinux_2_{minor}_{machine}" for minor in (7, 6, 5)
    ]
    assert "--python-version=3.11" in tags and "--abi=cp311" in tags
