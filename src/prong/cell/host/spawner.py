"""The spawner: a small jailed process per image, from which every cell host is forked.

Run as ``python -I -m prong.cell.host.spawner FD`` with an empty environment; FD is its control socket. The first message
configures it and closes the jail; then it answers ``boot`` (a fresh program), ``load`` (keep a snapshot ready), ``spawn``
(fork hosts from the loaded snapshot) and ``restore`` (fork one host that loads another snapshot itself).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import prong.cell.syscalls  # noqa: F401  (every handler must be there before the jail closes)
from prong.cell.core.errors import SysErr
from prong.cell.cpu.cpu import Blueprint
from prong.cell.cpu.timepage import counter_khz
from prong.cell.host import build
from prong.cell.host.cellhost import CellHost, run_cell
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.host.wire import Channel, Closed
from prong.cell.jail import imports, init, rlimits
from prong.cell.jail.jail import JailSpec, enter
from prong.cell.jail.namespaces import Identity as Uid
from prong.cell.jail.policy import vmm_policy
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.cell.memory.layout import FIRST_FREE, PAGE
from prong.cell.state import codec
from prong.errors import Conflict, ProngError
from prong.kvm import abi
from prong.kvm.device import Kvm

NOBODY = 65534
HOST_ROOM = 2 << 30
"""Bytes of address space a cell host may use beside its guest's memory."""


@dataclass(frozen=True)
class Env:
    """What ``after_load`` may use: the snapshot's memory file."""

    memory_fd: int
    memory_frames: int


def load_kernel(memory_fd: int, memory_frames: int, state_fd: int) -> Kernel:
    """Decode a snapshot over its memory file; the clock goes on from where it stood. Raises Corrupt."""
    size = os.fstat(state_fd).st_size
    state = os.pread(state_fd, size, 0)
    kernel = codec.decode(state, Env(memory_fd, memory_frames), Kernel)
    kernel.signals.locate = kernel.space.describe
    kernel.clock.thaw()
    return kernel


class Spawner:
    """State of the spawner process: the KVM device, its control channel, and the loaded template if any."""

    def __init__(self, channel: Channel, kvm: Kvm) -> None:
        self.channel = channel
        self.kvm = kvm
        self.template: Kernel | None = None

    def serve(self) -> None:
        """Answer requests until the engine hangs up; children that ended are reaped on the way."""
        while True:
            message = self.channel.receive()
            assert message is not None
            kind, request_id, *args = message
            init.reap()
            try:
                value = _REQUESTS[kind](self, *args)
            except SysErr as e:
                self.channel.send("fail", request_id, "os_error", os.strerror(e.errno), {"errno": e.errno})
            except ProngError as e:
                self.channel.send("fail", request_id, e.code, e.message, {**e.data, "hint": e.hint})
            else:
                self.channel.send("ok", request_id, value)

    def boot(self, raw: dict[str, Any]) -> int:
        """Fork a host that starts a fresh program; its control socket came along. Returns the pid inside the jail."""

        def body(channel: Channel) -> None:
            spec = BootSpec.parse(raw)
            limits = spec.parsed_limits()
            kernel = build.fresh_kernel(spec, limits)
            run_cell(kernel, channel, self.kvm, start=lambda host: _start(host, spec, self.kvm))

        return self._fork(body)

    def load(self, memory_frames: int) -> dict[str, int]:
        """Keep the snapshot whose memory and state descriptors came along ready for ``spawn``."""
        memory_fd, state_fd = self.channel.take_fds(2)
        self.template = load_kernel(memory_fd, memory_frames, state_fd)
        os.close(memory_fd)
        os.close(state_fd)
        gc.collect()
        gc.freeze()
        return {"frames": self.template.space.phys.frames}

    def spawn(self, identities: tuple[dict[str, Any], ...], limits: dict[str, Any] | None) -> list[int]:
        """Fork one host per identity from the loaded snapshot; as many control sockets came along."""
        pids: list[int] = []
        for raw in identities:

            def body(channel: Channel, raw: dict[str, Any] = raw) -> None:
                template = self.template
                if template is None:
                    raise Conflict("no template is loaded")
                build.apply_identity(template, Identity.parse(raw))
                _relimit(template, None if limits is None else Limits(**limits))
                template.clock.thaw()
                run_cell(template, channel, self.kvm)

            pids.append(self._fork(body))
        return pids

    def restore(self, memory_frames: int, identity: dict[str, Any] | None) -> int:
        """Fork one host that loads the snapshot whose control socket, memory and state descriptors came along."""
        sock_fd, memory_fd, state_fd = self.channel.take_fds(3)

        def body(channel: Channel) -> None:
            kernel = load_kernel(memory_fd, memory_frames, state_fd)
            os.close(memory_fd)
            os.close(state_fd)
            if identity is not None:
                generation = kernel.process.generation + 1
                build.apply_identity(kernel, replace(Identity.parse(identity), generation=generation))
            run_cell(kernel, channel, self.kvm)

        pid = self._fork(body, sock_fd)
        os.close(memory_fd)
        os.close(state_fd)
        return pid

    def _fork(self, body: Callable[[Channel], None], sock_fd: int | None = None) -> int:
        """Fork; the child runs ``body`` with its control channel and never returns."""
        fd = self.channel.take_fds(1)[0] if sock_fd is None else sock_fd
        pid = os.fork()
        if pid == 0:
            self.channel.close()  # and with it the control sockets of hosts to come, which are none of this one's business
            _child(body, Channel(socket.socket(fileno=fd)))
        os.close(fd)
        return pid


def _relimit(kernel: Kernel, limits: Limits | None) -> None:
    """Give a fork other limits than its template's; of the template's memory it can only have less."""
    if limits is not None:
        kernel.limits = limits
        kernel.space.phys.cap = limits.memory // PAGE + FIRST_FREE
        kernel.fds.limit = limits.files
        kernel.fs.quota.limit = limits.overlay
        kernel.sched.limit = limits.threads


def _start(host: CellHost, spec: BootSpec, kvm: Kvm) -> None:
    build.start_program(host.kernel, spec, kvm)


def _child(body: Callable[[Channel], None], channel: Channel) -> NoReturn:
    """The life of a cell host. Whatever happens, it ends here; trouble is told to the engine and to stderr."""
    code = 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # live forks of this host are nobody's to wait for: leave no zombies
    try:
        body(channel)
        code = 0
    except Closed:
        code = 0
    except ProngError as e:
        _tell(channel, e.code, e.message, {**e.data, "hint": e.hint})
    except SysErr as e:
        _tell(channel, "os_error", os.strerror(e.errno), {"errno": e.errno})
    finally:
        if code and (error := sys.exc_info()[1]) is not None:
            sys.excepthook(type(error), error, error.__traceback__)
            _tell(channel, "host_crashed", f"{type(error).__name__}: {error}", {})
        os._exit(code)


def _tell(channel: Channel, code: str, message: str, data: dict[str, Any]) -> None:
    try:
        channel.send("broken", code, message, data)
    except Closed:
        return


_REQUESTS: dict[str, Callable[..., Any]] = {
    "boot": Spawner.boot,
    "load": Spawner.load,
    "spawn": Spawner.spawn,
    "restore": Spawner.restore,
}


def _address_space(memory: int | None) -> int | None:
    """RLIMIT_AS of the jail's processes: the guest's memory, the overlay and Python need room; the rest is refused."""
    return None if memory is None else memory + HOST_ROOM


def main() -> None:
    """Configure, close the jail, serve."""
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGINT})
    message = channel.receive()
    assert message is not None
    _kind, request_id, config = message
    try:
        kvm = Kvm()
        imports.preload()
        counter_khz(kvm)
        Blueprint.of(kvm)
        keep = frozenset({channel.fileno(), kvm.fd, 2})
        spec = JailSpec(
            root=Path(config["root"]),
            policy=vmm_policy((abi.KVM_RUN, *abi.ALL)),
            keep_fds=keep,
            identity=Uid(NOBODY, NOBODY) if os.geteuid() == 0 else None,
            rlimits=rlimits.Rlimits(address_space=_address_space(config["memory"]), file_size=1 << 38),
        )
        jail = enter(spec)
        jail.seal()
    except ProngError as e:
        channel.send("fail", request_id, e.code, e.message, {**e.data, "hint": e.hint})
        sys.exit(1)
    channel.send("ok", request_id, jail.report.as_json())
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        Spawner(channel, kvm).serve()
    except Closed:
        sys.exit(0)


if __name__ == "__main__":
    main()
