"""Everything of one prong home that concerns cells: templates, snapshots, programs, and the processes behind them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prong.cell.engine import booting
from prong.cell.engine.cell import Cell
from prong.cell.engine.connection import RemoteError
from prong.cell.engine.descent import Descent
from prong.cell.engine.rehearsal import gather_pages
from prong.cell.engine.snapshots import Stored, host_cpu, write_snapshot
from prong.cell.engine.spawner import Spawner
from prong.cell.engine.template import Template
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.limits import MIB, Limits
from prong.cell.state.bundle import export_bundle, import_bundle
from prong.cell.state.directory import Origin, Receiver, check
from prong.errors import Conflict, Corrupt, NotFound, ProngError
from prong.image.events import Progress as ImageProgress
from prong.image.events import silent
from prong.image.manifest import Image
from prong.image.spec import load_spec
from prong.image.store import ImageStore
from prong.store.atomic import remove_tree
from prong.store.manifest import now
from prong.store.paths import Paths
from prong.store.snapshots import Snapshot, SnapshotStore
from prong.store.templates import Template as StoredTemplate
from prong.store.templates import TemplateManifest, TemplateStore
from prong.version import __version__

DEFAULT_TEMPLATE = "python"
DEFAULT_IMAGE = "python"

Step = Callable[[str], None]


@dataclass(frozen=True)
class TemplateSpec:
    """What a template is made of: image (name or digest), warm-up source (None: the built-in one), memory in bytes."""

    name: str
    image: str = DEFAULT_IMAGE
    warm: str | None = None
    memory: int = 512 * MIB


class Engine:
    """The cell engine over one data directory. Thread-safe. Close it to end every process it started.

    Args:
        paths: the data directory; by default ``PRONG_HOME`` or the user's.
    """

    def __init__(self, paths: Paths | None = None) -> None:
        self.paths = (paths or Paths.resolve()).ensure()
        self.templates = TemplateStore(self.paths.templates)
        self.snapshots = SnapshotStore(self.paths.snapshots)
        self.images = ImageStore(self.paths, in_use=self.templates.templates_using)
        self._lock = threading.RLock()
        self._live: dict[str, Template] = {}
        self._spawners: dict[str, Spawner] = {}

    # -- templates --------------------------------------------------------------------------------------------------------

    def template(
        self, name: str = DEFAULT_TEMPLATE, *, step: Step = lambda _: None, images: ImageProgress = silent
    ) -> Template:
        """The loaded template ``name``; the default one is built at first use (``step``, ``images`` hear how far it is).

        Raises:
            NotFound: no such template. HostUnfit: it was made for another processor, or the host cannot give the jail.
            BuildFailed: building the default one failed.
        """
        with self._lock:
            live = self._live.get(name)
            if live is not None and live.spawner.dead:
                live.close()
                live = None
            if live is None:
                try:
                    live = self._load(name, step, images)
                except Corrupt as e:
                    if name != DEFAULT_TEMPLATE:
                        raise
                    step(f"the stored template cannot be used ({e.message}); making it again")
                    self.create_template(TemplateSpec(name), replace=True, step=step)
                    live = self._load(name, step, images)
                self._live[name] = live
            return live

    def _load(self, name: str, step: Step, images: ImageProgress) -> Template:
        stored = self._stored_template(name, step, images)
        spawner = Spawner(self.images.get(stored.manifest.image).root, memory=stored.manifest.memory.size)
        try:
            return Template(name, stored, spawner)
        except RemoteError as e:
            spawner.close()
            if e.code != Corrupt.default_code:
                raise
            raise Corrupt(f"template {name}: {e.message}", hint="create it again", data=e.data) from None
        except ProngError:
            spawner.close()
            raise

    def _stored_template(self, name: str, step: Step, images: ImageProgress) -> Stored:
        try:
            record = self.templates.get(name)
        except NotFound:
            if name != DEFAULT_TEMPLATE:
                raise
            self._image(DEFAULT_IMAGE, images)
            try:
                record = self.create_template(TemplateSpec(name), step=step)
            except Conflict:  # another process made it while this one waited for it
                record = self.templates.get(name)
        manifest = check(record.snapshot, host=host_cpu(), has_image=self._has_image)
        return Stored(record.snapshot, manifest)

    def _image(self, name: str, progress: ImageProgress) -> Image:
        try:
            return self.images.get(name)
        except NotFound:
            return self.images.build(load_spec(name), progress=progress)

    def _has_image(self, digest: str) -> bool:
        try:
            self.images.get(digest)
        except NotFound:
            return False
        return True

    def create_template(self, spec: TemplateSpec, *, replace: bool = False, step: Step = lambda _: None) -> StoredTemplate:
        """Start the image's Python, run the warm-up, snapshot it under a name.

        Raises:
            NotFound: no such image. Conflict: the name is taken. BuildFailed: the warm-up raised; ``data["log"]``.
        """
        image = self.images.get(spec.image)
        warm = booting.DEFAULT_WARM if spec.warm is None else spec.warm
        limits = Limits(memory=spec.memory)
        started = time.perf_counter()
        with self.templates.building(spec.name, replace=replace) as draft:
            step("starting Python")
            cell = self._boot(image, booting.runtime_spec(image, warm, limits))
            try:
                step("warming up")
                cell.start()
                cell.wait_runtime(booting.WARM_TIMEOUT)
                step("rehearsing")
                self._gather_hot_pages(cell, image, draft.path)
                step("writing the snapshot")
                origin = Origin(cpu=host_cpu(), image=image.digest, limits={"memory": limits.memory})
                write_snapshot(cell, draft.snapshot, origin)
            finally:
                cell.close()
            draft.finish(
                TemplateManifest(
                    name=spec.name,
                    image=image.digest,
                    warm=hashlib.sha256(warm.encode()).hexdigest(),
                    memory=limits.memory,
                    created=now(),
                    prong=__version__,
                    seconds=round(time.perf_counter() - started, 3),
                )
            )
        with self._lock:
            old = self._live.pop(spec.name, None)
        if old is not None:
            old.close()
        return self.templates.get(spec.name)

    def _gather_hot_pages(self, cell: Cell, image: Image, folder: Path) -> None:
        """Rehearse a first run in a throw-away fork of ``cell`` and put the pages it touches side by side in ``cell``."""
        trial_folder = folder / "trial"
        trial_folder.mkdir()
        try:
            manifest = write_snapshot(cell, trial_folder, Origin(cpu=host_cpu(), image=image.digest), durable=False)
            spawner = Spawner(image.root, memory=manifest.memory.size)
            trial = Template("(trial)", Stored(trial_folder, manifest), spawner)
            try:
                written, read = trial.rehearsed_pages()
            finally:
                trial.close()
        finally:
            remove_tree(trial_folder)
        gather_pages(cell, written, read)

    # -- spawners and programs --------------------------------------------------------------------------------------------

    def _spawner(self, image: Image) -> Spawner:
        """The spawner for fresh programs and single snapshots of an image."""
        with self._lock:
            spawner = self._spawners.get(image.digest)
            if spawner is not None and spawner.dead:
                spawner.close()
                spawner = None
            if spawner is None:
                spawner = self._spawners[image.digest] = Spawner(image.root)
            return spawner

    def _boot(self, image: Image, spec: BootSpec) -> Cell:
        sock = self._spawner(image).boot(spec)
        descent = Descent("(image)", image.digest, dict(spec.limits))
        return Cell(sock, descent, Identity.parse(spec.identity)).wait_ready()

    def program(self, image: str, program: booting.Program, limits: Limits | None = None) -> Cell:
        """A cell that runs any program of an image; not started yet (``attach_output``, then ``start``)."""
        found = self.images.get(image)
        return self._boot(found, booting.program_spec(found, program, limits or Limits()))

    # -- snapshots --------------------------------------------------------------------------------------------------------

    def snapshot(self, cell: Cell, note: str = "", *, durable: bool = False) -> Snapshot:
        """Save ``cell`` (memory, files, threads, timers) on disk while it goes on. Raises Conflict if its program ended."""
        with self.snapshots.draft(durable=durable) as draft:
            origin = Origin(
                cpu=host_cpu(),
                image=cell.descent.image,
                parent=cell.snapshot_parent,
                limits=dict(cell.descent.limits),
                note=note,
                id=draft.id,
            )
            write_snapshot(cell, draft.path, origin, durable=durable)
        cell.snapshot_parent = draft.id
        return self.snapshots.get(draft.id)

    def hibernate(self, cell: Cell, note: str = "") -> Snapshot:
        """Move ``cell`` to disk: it is stopped, saved durably, and its process ends. :meth:`resume` brings it back.

        If it cannot be saved it goes on as before. Raises as :meth:`snapshot`.
        """
        cell.pause()
        try:
            snapshot = self.snapshot(cell, note, durable=True)
        except (ProngError, OSError):
            cell.start_soon()
            raise
        cell.close()
        return snapshot

    def resume(self, snapshot: Snapshot | str) -> Cell:
        """The cell that was hibernated: same identity, everything where it stood. Raises as :meth:`restore`."""
        return self.restore(snapshot, keep_identity=True)

    def restore(self, snapshot: Snapshot | str, *, keep_identity: bool = False) -> Cell:
        """A cell that goes on from a snapshot: a new one (the fork contract is kept), or with ``keep_identity`` the same.

        Raises:
            NotFound: no such snapshot, or its image is gone. HostUnfit, Corrupt: it cannot be used here.
        """
        if isinstance(snapshot, str):
            snapshot = self.snapshots.get(snapshot)
        manifest = check(snapshot.path, host=host_cpu(), has_image=self._has_image)
        stored = Stored(snapshot.path, manifest)
        image = self.images.get(manifest.image)
        identity = None if keep_identity else Identity.fresh(1)
        sock = self._spawner(image).restore(stored.memory, stored.state, stored.frames, identity)
        cell = Cell(sock, Descent.of("(snapshot)", manifest), identity or Identity.fresh(1)).wait_ready()
        cell.learn_identity()
        if not keep_identity:
            cell.owe_fork()
        cell.start_soon()
        return cell

    def rollback(self, cell: Cell, snapshot: Snapshot | str) -> Cell:
        """Replace ``cell`` by the state of ``snapshot``; returns the new handle (the old cell is closed on success)."""
        replacement = self.restore(snapshot, keep_identity=True)
        replacement.id = cell.id
        cell.close()
        return replacement

    def export(self, snapshot: Snapshot | str, path: Path) -> None:
        """Write a snapshot as one portable file. Raises Conflict if the file exists."""
        if isinstance(snapshot, str):
            snapshot = self.snapshots.get(snapshot)
        try:
            with path.open("xb") as out:
                export_bundle(snapshot, out)
        except FileExistsError:
            raise Conflict(f"{path} exists", hint="choose another name or remove it", data={"path": str(path)}) from None
        except (ProngError, OSError):
            path.unlink(missing_ok=True)
            raise

    def import_file(self, path: Path) -> Snapshot:
        """Check a portable file and add it to the snapshots. Raises Corrupt, HostUnfit, NotFound (its image)."""
        if not path.is_file():
            raise NotFound(f"{path} is not a file", data={"path": str(path)})
        with path.open("rb") as source:
            return import_bundle(source, self.snapshots, Receiver(host=host_cpu(), has_image=self._has_image))

    # -- end --------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process. Idempotent."""
        with self._lock:
            templates, self._live = list(self._live.values()), {}
            spawners, self._spawners = list(self._spawners.values()), {}
        for template in templates:
            template.close()
        for spawner in spawners:
            spawner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
