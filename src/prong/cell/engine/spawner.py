"""The engine's side of one spawner process: start it, ask it for cell hosts, end it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from prong.cell.engine.connection import Connection, socket_pair, with_sockets
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.host.wire import Message
from prong.errors import HostUnfit, ProngError, SandboxGone

START_TIMEOUT = 60.0
STDERR_TAIL = 4000


@cache
def _starter() -> ThreadPoolExecutor:
    """The one thread that starts spawners: a jail dies with the thread that started it, whoever's thread asked."""
    return ThreadPoolExecutor(1, "prong-starter")


def _start(command: list[str], sock: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        pass_fds=[sock],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={},
        start_new_session=True,
    )


os.register_at_fork(after_in_child=_starter.cache_clear)


class SpawnerDied(ProngError):
    """The spawner process ended on its own; ``data["stderr"]`` has its last words."""

    default_code = "spawner_died"


class Spawner:
    """One running spawner, jailed onto ``image_root``. Thread-safe. Close it to end it and every cell it made.

    Args:
        image_root: the image's tree.
        memory: bytes of guest memory its cells have at most; its processes may map that and HOST_ROOM more. None: any.

    Raises HostUnfit when the host cannot give the jail.
    """

    def __init__(self, image_root: Path, *, memory: int | None = None) -> None:
        ours, theirs = socket_pair()
        self._stderr = os.memfd_create("prong-spawner-stderr", os.MFD_CLOEXEC)
        command = [sys.executable, "-I", "-m", "prong.cell.host.spawner", str(theirs.fileno())]
        self.process = _starter().submit(_start, command, theirs.fileno(), self._stderr).result()
        theirs.close()
        self.connection = Connection(ours, _no_events, name="the spawner")
        self._lock = threading.Lock()
        try:
            self.report = self._request("config", {"root": str(image_root), "memory": memory}, timeout=START_TIMEOUT)
        except ProngError as e:
            self.close()
            if e.code in ("jail_unfit", "host_unfit"):
                raise HostUnfit(e.message, hint=e.hint, code=e.code, data=e.data) from None
            raise

    def _request(self, kind: str, *args: Any, fds: tuple[int, ...] = (), timeout: float = 60.0) -> Any:
        try:
            with self._lock:
                return self.connection.request(kind, *args, fds=fds, timeout=timeout)
        except SandboxGone:
            raise SpawnerDied(
                "the spawner process ended unexpectedly",
                hint="see its last words below",
                data={"stderr": self.last_words()},
            ) from None

    def boot(self, spec: BootSpec) -> socket.socket:
        """A cell host that starts a fresh program; returns the engine's end of its control connection."""
        return with_sockets(1, lambda fds: self._request("boot", spec.pack(), fds=fds))[0]

    def load(self, memory: Path, state: Path, frames: int) -> None:
        """Keep a snapshot loaded, for :meth:`spawn`."""
        with _opened(memory, state) as fds:
            self._request("load", frames, fds=fds)

    def spawn(self, identities: list[Identity], limits: dict[str, Any] | None = None) -> list[socket.socket]:
        """Fork one host per identity from the loaded snapshot."""
        packed = [i.pack() for i in identities]
        return with_sockets(len(identities), lambda fds: self._request("spawn", packed, limits, fds=fds))

    def restore(self, memory: Path, state: Path, frames: int, identity: Identity | None) -> socket.socket:
        """Fork one host that loads a snapshot by itself; identity None keeps the saved one (resume)."""
        packed = None if identity is None else identity.pack()
        with _opened(memory, state) as files:
            return with_sockets(1, lambda fds: self._request("restore", frames, packed, fds=(*fds, *files)))[0]

    @property
    def dead(self) -> bool:
        """Whether the process has ended on its own."""
        return self.connection.gone is not None or self.process.poll() is not None

    def last_words(self) -> str:
        """The end of what the spawner and its hosts wrote to stderr."""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, STDERR_TAIL, max(size - STDERR_TAIL, 0)).decode(errors="replace")

    def close(self) -> None:
        """End the spawner; its jail's processes die with it. Idempotent."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1


def _no_events(message: Message) -> None:
    """Spawners send none."""


class _opened:
    """Open files read-only for the duration of a block."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.fds: list[int] = []

    def __enter__(self) -> tuple[int, ...]:
        for path in self.paths:
            self.fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        return tuple(self.fds)

    def __exit__(self, *exc: object) -> None:
        for fd in self.fds:
            os.close(fd)
