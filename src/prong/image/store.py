"""The images of this host: built, imported, found, listed and removed.

Layout below the images directory:
    <digest>/root, <digest>/manifest.json    an image; appears by one rename, whole
    tags/<name>.json, keys/<key>.json        pointers to digests; replaced atomically
    staging/, locks/, logs/                  work under way, its locks, and the logs of builds that failed
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prong.errors import Conflict, Corrupt, InvalidInput, NotFound
from prong.image import archive, bytecode, debian, tree
from prong.image.build import Recipe, build_tree
from prong.image.events import BuildEvent, Progress, Stage, silent
from prong.image.locks import Staging, hold, remove_tree, staging, sweep
from prong.image.manifest import Image, Manifest
from prong.image.spec import ImageSpec, check_name
from prong.store.paths import Paths
from prong.version import __version__

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"[0-9a-f]{8,64}\Z")


def nobody(digest: str) -> tuple[str, ...]:
    """An ``in_use`` hook for stores whose images nothing refers to."""
    del digest
    return ()


class ImageStore:
    """All images under one data directory. Safe to use from many threads and processes at once.

    Args:
        paths: the data directory.
        in_use: names what uses an image's digest (templates); such an image is not removed.
    """

    def __init__(self, paths: Paths, *, in_use: Callable[[str], Sequence[str]] = nobody) -> None:
        self._top = paths.images
        self._in_use = in_use
        self._gate = self._top / "locks/store"
        self._staging = self._top / "staging"

    # -- finding

    def get(self, name_or_digest: str) -> Image:
        """The image with this name, digest, or beginning of a digest (8 digits or more).

        Raises:
            NotFound: there is none.
            InvalidInput: the beginning fits several.
            Corrupt: it is there but its manifest is not readable.
        """
        digest = self._pointer("tags", name_or_digest)
        if digest is None and _PREFIX.match(wanted := name_or_digest.removeprefix("sha256:")):
            fitting = [known for known in self._digests() if known.startswith(wanted)]
            if len(fitting) > 1:
                raise InvalidInput(f"{name_or_digest!r} fits {len(fitting)} images", hint="give more digits")
            digest = fitting[0] if fitting else None
        if digest is None or not (self._top / digest).is_dir():
            raise NotFound(
                f"there is no image {name_or_digest!r}",
                hint=f"see `prong image ls`, or build it: prong image build {name_or_digest}",
                data={"image": name_or_digest},
            )
        return self._load(digest)

    def list(self) -> tuple[Image, ...]:
        """All images: named ones first, by name."""
        images = [self._load(digest) for digest in self._digests()]
        return tuple(sorted(images, key=lambda image: (not image.names, image.names, image.digest)))

    def verify(self, image: Image) -> None:
        """Compute the image's digest anew.

        Raises:
            Corrupt: its tree is no longer what was built.
        """
        found = tree.measure(image.root, _settings(image.manifest.env, image.manifest.workdir)).digest
        if found != image.digest:
            raise Corrupt(
                f"the tree of image {image.title} has changed since it was made",
                hint=f"prong image rm {image.digest[:12]}, then build it again",
                data={"digest": image.digest, "found": found},
            )

    # -- making

    def build(self, spec: ImageSpec, *, tag: str | None = None, force: bool = False, progress: Progress = silent) -> Image:
        """The image of ``spec``: at once if an unchanged spec was built before, else built now.

        A second build of the same spec, in any process, waits for the first and shares its result.

        Args:
            spec: what the image shall hold.
            tag: the name to give; the spec's own by default.
            force: build even so, with the packages of today.
            progress: told of every step.

        Raises:
            InvalidInput: the tag is not a name, or a file the spec names cannot be read.
            HostUnfit: this host lacks what a build needs.
            BuildFailed: a program failed; ``data["log"]`` has its last lines and ``data["log_file"]`` the path of the
                rest.
        """
        name = self._check_tag(tag or spec.name)
        recipe = Recipe.resolve(spec)
        sweep(self._staging, self._gate)

        def waiting() -> None:
            progress(BuildEvent(Stage.WAIT, "another build of this image is under way"))

        with hold(self._top / "locks" / f"build-{recipe.key[:32]}", on_wait=waiting):
            known = self._pointer("keys", recipe.key)
            if known is None or force or not (self._top / known).is_dir():
                known = self._build(recipe, progress)
        self._point("tags", name, known)
        progress(BuildEvent(Stage.DONE, known, 1.0))
        return self._load(known)

    def import_tar(self, path: Path, *, tag: str, progress: Progress = silent) -> Image:
        """An image from a tar (plain, gzip, bzip2 or xz) of a root file system.

        Raises:
            InvalidInput: not a tar, or a member that reaches outside; ``data["member"]`` names it. Nothing is kept of
                it.
            NotFound: there is no such file.
        """
        if not path.is_file():
            raise NotFound(f"there is no file {path}")
        return self._import(lambda root, tick: archive.unpack(path, root, tick=tick), tag=tag, progress=progress)

    def import_dir(self, path: Path, *, tag: str, progress: Progress = silent) -> Image:
        """An image from a copy of a directory that holds a root file system.

        Raises:
            InvalidInput: it holds a device, pipe or socket outside the runtime directories, or something unreadable.
            NotFound: there is no such directory.
        """
        if not path.is_dir():
            raise NotFound(f"there is no directory {path}")
        return self._import(lambda root, tick: archive.copy_tree(path, root, tick=tick), tag=tag, progress=progress)

    def export(self, image: Image, path: Path) -> None:
        """Write the image's tree as a tar, compressed as the suffix says; ``path`` appears whole or not at all."""
        partial = path.with_name(f".{path.name}.partial{path.suffix}")
        try:
            archive.pack(image.root, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    # -- names and removal

    def tag(self, image: Image, name: str) -> Image:
        """Give an image one more name, taking it from whichever image had it."""
        self._point("tags", self._check_tag(name), image.digest)
        return self._load(image.digest)

    def remove(self, name_or_digest: str) -> str:
        """Remove an image: by name, the name, and with its last name the image; by digest, the image and all its names.

        Returns:
            The digest, whether or not the image itself went.

        Raises:
            NotFound: there is none.
            Conflict: something uses the image; ``data["users"]`` names it. Nothing was removed.
        """
        image = self.get(name_or_digest)
        by_name = name_or_digest in image.names
        with hold(self._gate):
            names = self._names().get(image.digest, ())
            if by_name and len(names) > 1:
                self._file("tags", name_or_digest).unlink(missing_ok=True)
                return image.digest
            if users := self._in_use(image.digest):
                raise Conflict(
                    f"image {image.title} is used by {', '.join(users)}",
                    hint="remove those first",
                    data={"users": [*users]},
                )
            for name in names:
                self._file("tags", name).unlink(missing_ok=True)
            # Out of sight in one step; what a kill leaves of the deletion is swept later.
            self._staging.mkdir(parents=True, exist_ok=True)
            doomed = f"removed-{image.digest[:16]}-{os.getpid()}"
            with hold(self._staging / f"{doomed}.lock"):
                (self._top / image.digest).rename(self._staging / doomed)
                remove_tree(self._staging / doomed)
                (self._staging / f"{doomed}.lock").unlink()
        return image.digest

    def sweep(self) -> tuple[str, ...]:
        """Delete what builders that died left behind; returns the names of their staging areas."""
        return tuple(sweep(self._staging, self._gate))

    # -- inside

    def _build(self, recipe: Recipe, progress: Progress) -> str:
        started = time.monotonic()
        with staging(self._staging, self._gate) as area:
            log = self._top / "logs" / f"{recipe.spec.name}-{area.path.name}.log"
            log.parent.mkdir(exist_ok=True)
            built = build_tree(recipe, area, log=log, progress=progress)
            measured = self._seal(built.root, recipe.spec.env, recipe.spec.workdir, recipe.epoch, progress)
            manifest = Manifest(
                digest=measured.digest, origin="build", spec=recipe.spec, suite=recipe.suite, env=recipe.spec.env,
                workdir=recipe.spec.workdir, packages=built.packages, created=datetime.now(UTC).replace(microsecond=0),
                size_bytes=measured.size_bytes, file_count=measured.file_count,
                seconds=round(time.monotonic() - started, 1),
                builders={"prong": __version__, "mmdebstrap": debian.mmdebstrap_version(), "mode": recipe.mode},
            )  # fmt: skip
            self._commit(area, built.root, manifest)
            self._point("keys", recipe.key, measured.digest)
            log.unlink(missing_ok=True)
        return measured.digest

    def _import(self, fill: Callable[[Path, Callable[[str], None]], None], *, tag: str, progress: Progress) -> Image:
        name = self._check_tag(tag)
        started = time.monotonic()
        sweep(self._staging, self._gate)
        with staging(self._staging, self._gate) as area:
            root = area.path / "root"
            root.mkdir()
            fill(root, lambda path: progress(BuildEvent(Stage.UNPACK, path)))
            measured = self._seal(root, {}, "/", None, progress)
            manifest = Manifest(
                digest=measured.digest, origin="import", spec=None, suite=None, env={}, workdir="/",
                packages=debian.installed_packages(root), created=datetime.now(UTC).replace(microsecond=0),
                size_bytes=measured.size_bytes, file_count=measured.file_count,
                seconds=round(time.monotonic() - started, 1), builders={"prong": __version__},
            )  # fmt: skip
            self._commit(area, root, manifest)
        self._point("tags", name, measured.digest)
        progress(BuildEvent(Stage.DONE, measured.digest, 1.0))
        return self._load(measured.digest)

    def _seal(self, root: Path, env: dict[str, str], workdir: str, epoch: int | None, progress: Progress) -> tree.Measure:
        progress(BuildEvent(Stage.SEAL, "setting permissions"))
        tree.seal(root, epoch=epoch)
        if epoch is not None:
            bytecode.stamp(root)
        return tree.measure(
            root,
            _settings(env, workdir),
            tick=lambda done: progress(BuildEvent(Stage.SEAL, f"{done} entries measured")),
        )

    def _commit(self, area: Staging, root: Path, manifest: Manifest) -> None:
        """Put a finished tree in its place by one rename; one that is there already is the same, so it stays."""
        whole = area.path / "image"
        whole.mkdir(mode=0o755)
        whole.chmod(0o755)
        root.rename(whole / "root")
        (whole / "manifest.json").write_text(manifest.model_dump_json(indent=1))
        # On disk before it has a name, so that a power cut cannot leave a named image with empty files.
        subprocess.run(["sync", "--file-system", str(whole)], check=True)
        with hold(self._gate):
            final = self._top / manifest.digest
            if not final.exists():
                whole.rename(final)

    def _digests(self) -> tuple[str, ...]:
        if not self._top.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self._top.iterdir() if _DIGEST.match(entry.name)))

    def _load(self, digest: str) -> Image:
        home = self._top / digest
        manifest = Manifest.read(home / "manifest.json")
        return Image(digest, self._names().get(digest, ()), home / "root", manifest)

    def _names(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for file in sorted((self._top / "tags").glob("*.json")):
            name = file.name.removesuffix(".json")
            if digest := self._pointer("tags", name):
                found[digest] = (*found.get(digest, ()), name)
        return found

    def _file(self, kind: str, name: str) -> Path:
        return self._top / kind / f"{name}.json"

    def _pointer(self, kind: str, name: str) -> str | None:
        if "/" in name or not name:
            return None
        file = self._file(kind, name)
        try:
            digest = json.loads(file.read_text())["digest"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as broken:
            raise Corrupt(
                f"{file} is not a pointer to an image", hint="delete that file", data={"path": str(file)}
            ) from broken
        return str(digest)

    def _point(self, kind: str, name: str, digest: str) -> None:
        file = self._file(kind, name)
        with hold(self._gate):
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps({"digest": digest}))
            fresh.replace(file)

    @staticmethod
    def _check_tag(name: str) -> str:
        try:
            return check_name(name)
        except ValueError as wrong:
            raise InvalidInput(str(wrong), data={"field": "tag"}) from wrong


def _settings(env: dict[str, str], workdir: str) -> dict[str, object]:
    return {"env": env, "workdir": workdir}
