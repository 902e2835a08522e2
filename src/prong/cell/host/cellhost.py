"""One cell's process: control messages in, output and events out, the run loop in between."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prong.cell.core.errors import SysErr
from prong.cell.cpu.loop import Loop, VmBroken
from prong.cell.fs.stdio import ChannelDuplex, ChannelIn, ChannelOut
from prong.cell.host import build, requests
from prong.cell.host.account import CallAccount
from prong.cell.host.spec import CONTROL, CONTROL_FD, STDIN, CallLimits, Identity
from prong.cell.host.wire import Channel, Closed, Message
from prong.cell.memory import hotset
from prong.errors import ProngError

if TYPE_CHECKING:
    from prong.cell.cpu.cpu import Cpu
    from prong.cell.kernel import Kernel
    from prong.kvm.device import Kvm

FLUSH_BYTES = 1 << 16
"""Output held back at most before it is sent; it is sent anyway at every tick and before every wait."""


class Forked(Exception):
    """Raised in a freshly forked child to unwind to :meth:`CellHost.serve`."""


class CellHost:
    """The VMM's outer half: implements the run loop's ``Host`` for one kernel.

    ``serve`` returns when the engine closes the control connection.
    """

    def __init__(self, kernel: Kernel, channel: Channel, kvm: Kvm) -> None:
        self.kernel = kernel
        self.channel = channel
        self.kvm = kvm
        self.cpu: Cpu | None = None
        self.loop: Loop | None = None
        self.paused = True
        self.closed = False
        self.exit_sent = False
        self.account = CallAccount(kernel)
        self._out: list[Message] = []
        self._out_bytes = 0
        stdin = self._input_file(STDIN)
        self._own_stdin = stdin is not None and stdin.closed
        self._connect_channels()

    # -- life -----------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Create this process's VM over the cell's memory."""
        self.cpu = build.attach_cpu(self.kernel, self.kvm)
        self.loop = Loop(self.kernel, self.cpu, self)

    def serve(self) -> None:
        """Run the program and serve the engine until it hangs up."""
        while not self.closed:
            try:
                if self.paused or self.kernel.process.exit_status is not None:
                    self._report_exit()
                    self.service(None)
                else:
                    assert self.loop is not None
                    self.loop.run()
            except Forked:
                continue
            except VmBroken as e:
                self.kernel.process.exit_status = 6
                self.kernel.process.exit_reason = f"the virtual machine stopped: {e}"
            except Closed:
                return

    def short_of(self, number: int, error: int) -> None:
        """For the run loop: a call failed for want of something limited; tell which limit it was."""
        self.account.short_of(number, error)

    def stopping(self) -> bool:
        """For the run loop: paused or hung up."""
        return self.paused or self.closed

    def _report_exit(self) -> None:
        process = self.kernel.process
        if process.exit_status is None or self.exit_sent:
            return
        self.exit_sent = True
        self._out.append(("exit", requests.exit_report(self.kernel)))
        self.flush()

    # -- output ---------------------------------------------------------------------------------------------------------

    def _connect_channels(self) -> None:
        for file in {id(f): f for f in self.kernel.fds.files.values()}.values():
            if isinstance(file, ChannelOut | ChannelDuplex):
                file.set_sink(self._sink)

    def _sink(self, channel: int, data: bytes) -> None:
        """The program wrote to one of its outside streams."""
        data = self.account.count_output(channel, data)
        if not data:
            return
        self._out.append(("out", channel, data))
        self._out_bytes += len(data)
        if self._out_bytes > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is held back, and news of refusals and limits. Blocks while the engine is slow: so does the program."""
        refusals = self.kernel.refusals
        news = [("refused", r.kind, r.call, r.detail) for r in refusals.news]
        refusals.news.clear()
        for message in (*news, *self.account.events(), *self._out):
            self.channel.send(*message)
        self._out.clear()
        self._out_bytes = 0

    # -- control --------------------------------------------------------------------------------------------------------

    def service(self, timeout: int | None) -> None:
        """Run-loop hook: send output, enforce the call's limits, handle what the engine sent (see ``Host``)."""
        account = self.account
        if account.active:
            if timeout != 0 and self._runtime_waits():
                account.end()
                self.kernel.space.phys.trim()
            account.enforce()
            left = account.time_left()
            if timeout != 0 and left is not None:
                timeout = left if timeout is None else min(timeout, left)
        if self._out or account.pending or self.kernel.refusals.news:
            self.flush()
        if self.kernel.sched.ready:
            timeout = 0
        message = self.channel.receive(None if timeout is None else timeout / 1e9)
        while message is not None:
            try:
                self._handle(message)
            except Closed:
                self.closed = True
                raise
            message = self.channel.receive(0)

    def _runtime_waits(self) -> bool:
        """Whether the runtime has read every request and waits for the next: the call in progress is over."""
        control = self.kernel.fds.files.get(CONTROL_FD)
        return isinstance(control, ChannelDuplex) and bool(control.waitq.waiters) and not control.inbox

    def _handle(self, message: Message) -> None:
        kind, *args = message
        handler = _ASYNC.get(kind)
        if handler is not None:
            handler(self, *args)
            return
        request_id, *rest = args
        try:
            value = requests.REQUESTS[kind](self, *rest)
        except SysErr as e:
            self.channel.send("fail", request_id, "os_error", os.strerror(e.errno), {"errno": e.errno})
        except ProngError as e:
            self.channel.send("fail", request_id, e.code, e.message, {**e.data, "hint": e.hint})
        else:
            self.channel.send("ok", request_id, value)

    def feed(self, channel: int, data: bytes) -> None:
        """Bytes for the program's stdin or control stream."""
        file = self._input_file(channel)
        if file is not None:
            file.feed(data)

    def close_input(self, channel: int) -> None:
        """End of file on an input stream."""
        file = self._input_file(channel)
        if file is not None:
            file.close_input()

    def reopen_input(self, channel: int) -> None:
        """A call with a standard input of its own begins, or has ended: what it left unread goes, and input may come again.

        Input that came by itself stays, and so does its end: it may have come before the call that reads it.
        """
        file = self._input_file(channel)
        if file is not None:
            file.reopen_input()

    def _input_file(self, channel: int) -> ChannelIn | ChannelDuplex | None:
        files = self.kernel.fds.files
        candidates = [files.get(CONTROL_FD)] if channel else list(files.values())
        for file in candidates:
            if isinstance(file, ChannelIn | ChannelDuplex) and file.channel == channel:
                return file
        return None

    def unpause(self) -> None:
        """Let the program run."""
        self.paused = False

    def signal(self, number: int) -> None:
        """Post a signal to the program."""
        self.kernel.signals.post(number)

    def begin_call(self, wall: float | None, cpu: float | None, output: int | None) -> None:
        """A call starts: its limits count from now."""
        self.account.begin(CallLimits(wall, cpu, output))

    def run_call(
        self, wall: float | None, cpu: float | None, output: int | None, frame: bytes, stdin: bytes, *, eof: bool
    ) -> None:
        """A call of the runtime in one message: its limits, its stdin, its request frame."""
        hotset.prefetch(self.kernel.space)
        self.begin_call(wall, cpu, output)
        if eof or self._own_stdin:
            self.reopen_input(STDIN)
        self._own_stdin = eof
        if stdin:
            self.feed(STDIN, stdin)
        if eof:
            self.close_input(STDIN)
        self.feed(CONTROL, frame)

    def end_call(self) -> None:
        """The call is over."""
        self.account.end()

    # -- forks ----------------------------------------------------------------------------------------------------------

    def fork(self, sockets: list[socket.socket], identities: list[Identity], *, running: bool) -> list[int]:
        """Fork this cell live once per socket; in the parent returns the children's pids, in each child raises Forked."""
        self.flush()
        if self.cpu is not None:
            self.cpu.unload()
        if self.loop is not None:
            self.loop.timepage.suspend()
        pids: list[int] = []
        for i, sock in enumerate(sockets):
            pid = os.fork()
            if pid == 0:
                for other in sockets[:i] + sockets[i + 1 :]:
                    other.close()
                self._become_child(sock, identities[i], running)
                raise Forked
            pids.append(pid)
        for sock in sockets:
            sock.close()
        return pids

    def _become_child(self, sock: socket.socket, identity: Identity, running: bool) -> None:
        """In the child: own VM, own control connection, own identity; then the program may go on."""
        self.channel.close()
        self.channel = Channel(sock)
        self.account.forked()
        self._out.clear()
        if self.cpu is not None:
            self.cpu.close()
        sched = self.kernel.sched
        if sched.current is not None:
            sched.ready.appendleft(sched.current)
            sched.current = None
        build.apply_identity(self.kernel, identity)
        self.power_on()
        if running and isinstance(self.kernel.fds.files.get(CONTROL_FD), ChannelDuplex):
            self.kernel.signals.post(64, sched.leader)  # for the runtime; it would end a program that does not expect it
        self.channel.send("ready", time.monotonic_ns())


_ASYNC: dict[str, Callable[..., None]] = {
    "input": CellHost.feed,
    "close_input": CellHost.close_input,
    "start": CellHost.unpause,
    "signal": CellHost.signal,
    "run": lambda host, wall, cpu, output, frame, stdin, eof: host.run_call(wall, cpu, output, frame, stdin, eof=eof),
    "call": CellHost.begin_call,
    "call_end": CellHost.end_call,
}


def run_cell(kernel: Kernel, channel: Channel, kvm: Kvm, *, start: Callable[[CellHost], Any] | None = None) -> None:
    """The body of a cell-host process: VM on, tell the engine, serve."""
    host = CellHost(kernel, channel, kvm)
    host.power_on()
    if start is not None:
        start(host)
    channel.send("ready", time.monotonic_ns())
    host.serve()
