"""Requests of the engine that have an answer: lifecycle, forks, snapshots, files, figures."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prong.cell.core.file import Stat
from prong.cell.fs import hostapi
from prong.cell.host import build
from prong.cell.host.spec import STDIN, Identity
from prong.cell.memory import hotset
from prong.cell.memory.layout import PAGE
from prong.cell.state import codec
from prong.cell.state.snapshot import write_memory, write_state
from prong.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from prong.cell.host.cellhost import CellHost
    from prong.cell.kernel import Kernel

MAX_READ = 4 << 20


def exit_report(kernel: Kernel) -> dict[str, Any]:
    """How the program ended, and what it used."""
    process = kernel.process
    status = process.exit_status or 0
    return {
        "code": status >> 8 if not status & 0x7F else None,
        "signal": status & 0x7F or None,
        "reason": process.exit_reason,
        "limit": process.exit_limit,
        "refusals": [(r.kind, r.call, r.detail, n) for r, n in kernel.refusals.counts.items()],
        **figures(kernel),
    }


def figures(kernel: Kernel) -> dict[str, Any]:
    """Resource figures: bytes, nanoseconds, counts."""
    phys = kernel.space.phys
    return {
        "memory": phys.used * PAGE,
        "memory_size": phys.size,
        "memory_peak": phys.peak * PAGE,
        "overlay": kernel.fs.quota.used,
        "cpu_ns": kernel.cpu.cpu_time(None),
        "syscalls": kernel.process.syscalls,
        "faults": kernel.process.faults,
        "threads": len(kernel.sched.tasks),
        "refused": kernel.refusals.total,
    }


def _go(host: CellHost, identity: dict[str, Any] | None) -> None:
    """Let the program run, under a new identity if one is given."""
    if identity is not None:
        build.apply_identity(host.kernel, Identity.parse(identity))
    host.paused = False


def _pause(host: CellHost) -> None:
    """Stop the program where it is."""
    host.paused = True


def _fork(host: CellHost, identities: tuple[dict[str, Any], ...], running: bool) -> dict[str, Any]:
    """Fork live, once per identity; as many sockets came along."""
    sockets = [socket.socket(fileno=fd) for fd in host.channel.take_fds(len(identities))]
    if host.kernel.process.exit_status is not None:
        for sock in sockets:
            sock.close()
        raise Conflict("the program in this cell has ended; there is nothing to fork")
    pids = host.fork(sockets, [Identity.parse(i) for i in identities], running=running)
    return {"pids": pids}


def _snapshot(host: CellHost) -> dict[str, Any]:
    """Write memory and state to the two descriptors that came along; the program goes on afterwards."""
    memory_fd, state_fd = host.channel.take_fds(2)
    kernel = host.kernel
    if kernel.process.exit_status is not None:
        os.close(memory_fd)
        os.close(state_fd)
        raise Conflict("the program in this cell has ended; there is nothing to snapshot")
    if host.cpu is not None:
        host.cpu.unload()
    if host.loop is not None:
        host.loop.timepage.suspend()
    sched = kernel.sched
    current, sched.current = sched.current, None
    if current is not None:
        sched.ready.appendleft(current)
    try:
        kernel.clock.freeze()
        state = codec.encode(kernel)
        frames = kernel.space.phys.used_runs()
        memory = write_memory(memory_fd, kernel.space.phys.bytes, frames)
        digest = write_state(state_fd, state)
    finally:
        if current is not None:
            sched.ready.popleft()
            sched.current = current
        os.close(memory_fd)
        os.close(state_fd)
    return {"memory": memory, "state": digest, "frames": kernel.space.phys.frames, **figures(kernel)}


def _watch(host: CellHost) -> None:
    """Start watching which pages are touched; only before the program runs in this VM."""
    hotset.watch(host.kernel.space)


def _touched(host: CellHost) -> tuple[list[int], list[int]]:
    """The pages written, and those only read, since ``watch``."""
    return hotset.touched(host.kernel.space)


def _gather(host: CellHost, written: tuple[int, ...], read: tuple[int, ...]) -> None:
    """Put these pages side by side in physical memory."""
    hotset.gather(host.kernel.space, list(written), list(read))


def _identity(host: CellHost) -> dict[str, Any]:
    """The identity the cell has now."""
    process = host.kernel.process
    hostname = process.hostname.decode(errors="replace")  # the program may have set any bytes
    names = (hostname, process.machine_id.decode(), process.boot_id.decode())
    return Identity(*names, process.generation).pack()


def _stdin(host: CellHost, data: bytes) -> None:
    """Input for the program; ENOBUFS when it has too much unread."""
    host.feed(STDIN, data)


def _stats(host: CellHost) -> dict[str, Any]:
    """Figures now, the host process's own included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {**figures(host.kernel), "host_maxrss": usage.ru_maxrss * 1024}


def _files(host: CellHost, op: str, arguments: dict[str, Any]) -> Any:
    """A file operation from outside (``fs.hostapi``)."""
    function = _FILE_OPS.get(op)
    if function is None:
        raise InvalidInput(f"no file operation {op!r}", data={"field": "op"})
    return function(host.kernel, **arguments)


def _read(kernel: Kernel, path: bytes, offset: int, size: int) -> bytes:
    return hostapi.read_file(kernel.fs, path, offset, min(size, MAX_READ))


def _write(kernel: Kernel, path: bytes, offset: int, data: bytes, mode: int) -> int:
    return hostapi.write_file(kernel.fs, path, data, offset, mode=mode)


def _told(stat: Stat) -> tuple[int, int, int]:
    """What ``engine.files`` reads: mode, size in bytes, mtime in ns."""
    return stat.mode, stat.size, stat.mtime_ns


_FILE_OPS: dict[str, Callable[..., Any]] = {
    "read": _read,
    "write": _write,
    "list": lambda kernel, path: [(e.name, _told(e.stat)) for e in hostapi.list_dir(kernel.fs, path)],
    "stat": lambda kernel, path: _told(hostapi.stat_path(kernel.fs, path, follow=False)),
    "remove": lambda kernel, path, recursive: hostapi.remove(kernel.fs, path, recursive=recursive),
    "move": lambda kernel, source, target: hostapi.move(kernel.fs, source, target),
    "mkdir": lambda kernel, path, parents: hostapi.make_dir(kernel.fs, path, parents=parents),
}

REQUESTS: dict[str, Callable[..., Any]] = {
    "go": _go,
    "pause": _pause,
    "fork": _fork,
    "snapshot": _snapshot,
    "stats": _stats,
    "stdin": _stdin,
    "identity": _identity,
    "watch": _watch,
    "touched": _touched,
    "gather": _gather,
    "files": _files,
}
"""Kind → handler(host, *arguments) whose result is the answer."""
