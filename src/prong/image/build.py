"""One build, from a resolved spec to an unsealed tree in a staging area."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prong.errors import InvalidInput
from prong.image import archive, debian, tree, wheels
from prong.image.events import BuildEvent, Progress, Stage
from prong.image.locks import Staging
from prong.image.manifest import Package
from prong.image.process import Runner
from prong.image.sources import debian_sources, host_suite
from prong.image.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Recipe:
    """A spec with everything settled that the host decides.

    Attributes:
        suite: the Debian suite.
        sources: deb822 text of the archives.
        mode: how mmdebstrap works for this user.
        key: finds an earlier build of the same.
        epoch: no file of the image is newer than this (seconds since 1970): ``SOURCE_DATE_EPOCH``, else today's 00:00
            UTC.
    """

    spec: ImageSpec
    suite: str
    sources: str
    mode: debian.Mode
    key: str
    epoch: int

    @classmethod
    def resolve(cls, spec: ImageSpec) -> Recipe:
        """Settle suite, archives, mode and key on this host.

        Raises:
            HostUnfit: this user cannot build here.
            InvalidInput: a file the spec names cannot be read, or SOURCE_DATE_EPOCH is not a number.
        """
        suite = spec.suite or host_suite()
        sources = debian_sources(suite)
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = os.environ.get("SOURCE_DATE_EPOCH") or str(int(midnight.timestamp()))
        if not wanted.isdecimal():
            raise InvalidInput(
                f"SOURCE_DATE_EPOCH is {wanted!r}, not a number of seconds", data={"field": "SOURCE_DATE_EPOCH"}
            )
        key = spec.key(suite=suite, sources=sources)
        return cls(spec, suite, sources, debian.choose_mode(), key, int(wanted))


@dataclass(frozen=True, slots=True)
class Built:
    """A finished, unsealed tree and what is installed in it."""

    root: Path
    packages: tuple[Package, ...]


def build_tree(recipe: Recipe, area: Staging, *, log: Path, progress: Progress) -> Built:
    """Install packages, wheels and files and run the commands, in that order, under ``area``.

    Raises:
        BuildFailed: a program failed.
        InvalidInput: the spec asks for what the image cannot have (pip without Python, a file over a directory).
    """
    spec = recipe.spec
    runner = Runner(log=log, lock_fd=area.lock_fd, epoch=recipe.epoch, scratch=area.scratch)
    # In scratch, because mmdebstrap's namespace may not reach into a closed home directory.
    tar = area.scratch / "debian.tar"
    debian.bootstrap(
        spec, mode=recipe.mode, suite=recipe.suite, sources=recipe.sources,
        output=tar, runner=runner, progress=progress,
    )  # fmt: skip
    root = _unpacked(tar, area.path / "root", progress)
    tree.prune(root, spec.exclude)
    installed: tuple[Package, ...] = ()
    if spec.pip:
        work = area.path / "pip"
        work.mkdir()
        installed = wheels.install_requirements(spec.pip, root, work=work, runner=runner, progress=progress)
    write_files(spec, root, progress)
    if spec.run:
        root = _run(recipe, root, area, runner, progress)
    packages = (*debian.installed_packages(root), *installed)
    debian.clean(root)
    return Built(root, packages)


def _run(recipe: Recipe, root: Path, area: Staging, runner: Runner, progress: Progress) -> Path:
    before, after = area.scratch / "before.tar", area.scratch / "after.tar"
    progress(BuildEvent(Stage.RUN, "entering the root"))
    tree.seal(root, epoch=None)
    archive.pack(root, before)
    debian.run_commands(recipe.spec, mode=recipe.mode, before=before, output=after, runner=runner, progress=progress)
    before.unlink()
    return _unpacked(after, area.path / "root-after", progress)


def _unpacked(tar: Path, root: Path, progress: Progress) -> Path:
    root.mkdir()
    archive.unpack(tar, root, tick=lambda name: progress(BuildEvent(Stage.UNPACK, name)))
    tar.unlink()
    return root


def write_files(spec: ImageSpec, root: Path, progress: Progress) -> None:
    """Write the spec's files into the tree. Links inside the tree are followed as the image itself would follow them.

    Raises:
        InvalidInput: a path is a directory in the image, lies below a file, or leads out of it through a link.
    """
    for destination, entry in sorted(spec.files.items()):
        progress(BuildEvent(Stage.FILES, destination))
        parent, _, base = destination.strip("/").rpartition("/")
        folder = Path(os.path.realpath(root / parent))
        top = Path(os.path.realpath(root))
        target = folder / base
        if not folder.is_relative_to(top):
            raise _bad_file(destination, "leads out of the image through a link")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_bytes(entry.read())
            target.chmod(entry.mode | 0o400)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise _bad_file(destination, "is a directory, or lies below a file, in the image") from error


def _bad_file(destination: str, why: str) -> InvalidInput:
    return InvalidInput(f"files: {destination} {why}", data={"field": f"files.{destination}"})
