"""Signals that are read (signalfd(2))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLIN
from prong.cell.core.saved import saved
from prong.cell.ipc.events import IpcFile

if TYPE_CHECKING:
    from prong.cell.task.signals import SignalInfo, Signals

INFO_SIZE = 128
_INFO = struct.Struct("<IiiIIiIIIIiiQQQQHHiQI28x")
_TIMER_CODE = -2


@saved("signalfd")
class SignalFd(IpcFile):
    """Reads take pending signals of the set ``mask``, the calling thread's own and the process's."""

    kind = "signalfd"

    def __init__(self, signals: Signals, flags: int, mask: int) -> None:
        super().__init__(flags)
        self.signals = signals
        self.mask = mask
        self.waitq = signals.waitq

    def read(self, size: int) -> bytes:
        """As many signalfd_siginfo as fit and are pending, at least one."""
        if size < INFO_SIZE:
            raise SysErr(errno.EINVAL)
        task = self.signals.sched.current
        found: list[bytes] = []
        while task is not None and len(found) < size // INFO_SIZE:
            info = self.signals.dequeue(task, self.mask)
            if info is None:
                break
            found.append(pack_info(info))
        if not found:
            raise WouldBlock
        return b"".join(found)

    def poll(self) -> int:
        """Readable when the running thread could read a signal."""
        task = self.signals.sched.current
        pending = self.signals.pending_mask | (task.pending_mask if task is not None else 0)
        return POLLIN if pending & self.mask else 0


def pack_info(info: SignalInfo) -> bytes:
    """One struct signalfd_siginfo."""
    timer = info.code == _TIMER_CODE
    value = info.value & 0xFFFFFFFFFFFFFFFF
    int_value = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
    return _INFO.pack(
        info.signo,
        0,
        info.code,
        0 if timer else info.pid,
        0 if timer else info.uid,
        0,
        info.timerid if timer else 0,
        0,
        info.overrun if timer else 0,
        0,
        info.status,
        int_value,
        value,
        0,
        0,
        info.addr & 0xFFFFFFFFFFFFFFFF,
        0,
        0,
        0,
        0,
        0,
    )
