"""System calls the standard library does not wrap, through ``libc.syscall``.

Every function raises :class:`OSError` with the kernel's errno. Arguments are passed as 64-bit words.
"""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

Buffer = ctypes.Array[ctypes.c_char]

SYS_SECCOMP = 317
_SYS_PIVOT_ROOT = 155
_SYS_PRCTL = 157
_SYS_MOUNT = 165
_SYS_UMOUNT2 = 166
_SYS_CAPGET = 125
_SYS_CAPSET = 126
_SYS_SETHOSTNAME = 170
_SYS_UNSHARE = 272
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_MOUNT_SETATTR = 442


def syscall(number: int, *args: int | bytes | Buffer | None) -> int:
    """Makes system call ``number``; integers become 64-bit words, bytes and buffers pointers, ``None`` a null pointer.

    Raises:
        OSError: with the kernel's errno.
    """
    words = [ctypes.c_ulong(a & 0xFFFF_FFFF_FFFF_FFFF) if isinstance(a, int) else a for a in args]
    result: int = _syscall(ctypes.c_long(number), *words)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2)."""
    return syscall(_SYS_PRCTL, option, a, b, c, d)


def unshare(flags: int) -> None:
    """unshare(2)."""
    syscall(_SYS_UNSHARE, flags)


def sethostname(name: str) -> None:
    """sethostname(2): the node name of this UTS namespace."""
    raw = name.encode()
    syscall(_SYS_SETHOSTNAME, raw, len(raw))


def mount_propagation(target: str, flags: int) -> None:
    """mount(2) for its propagation flags only: no source, no type, no data."""
    syscall(_SYS_MOUNT, None, target.encode(), None, flags, None)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    syscall(_SYS_UMOUNT2, target.encode(), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    syscall(_SYS_PIVOT_ROOT, new_root.encode(), put_old.encode())


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2), Linux 5.2: a descriptor of a mount, with ``OPEN_TREE_CLONE`` of a new detached one."""
    return syscall(_SYS_OPEN_TREE, dirfd, path.encode(), flags)


def mount_setattr(mount_fd: int, attributes: int, flags: int) -> None:
    """mount_setattr(2), Linux 5.12: sets ``MOUNT_ATTR_*`` on the mount ``mount_fd`` refers to."""
    attr = ctypes.create_string_buffer(attributes.to_bytes(8, "little") + bytes(24), 32)
    syscall(_SYS_MOUNT_SETATTR, mount_fd, b"", flags, attr, 32)


def move_mount(from_fd: int, to_dirfd: int, to_path: str, flags: int) -> None:
    """move_mount(2), Linux 5.2: attaches a detached mount."""
    syscall(_SYS_MOVE_MOUNT, from_fd, b"", to_dirfd, to_path.encode(), flags)


def close_range(first: int, last: int) -> None:
    """close_range(2), Linux 5.9: closes descriptors ``first`` to ``last``, both included."""
    syscall(_SYS_CLOSE_RANGE, first, last, 0)


_CAPABILITY_VERSION_3 = 0x20080522


def capset_none() -> None:
    """capset(2): empties this thread's effective, permitted and inheritable capability sets."""
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    syscall(_SYS_CAPSET, header, ctypes.create_string_buffer(24))


def capget() -> tuple[int, int, int]:
    """capget(2): this thread's effective, permitted and inheritable sets as bit masks."""
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    data = ctypes.create_string_buffer(24)
    syscall(_SYS_CAPGET, header, data)
    words = [int.from_bytes(data.raw[i : i + 4], "little") for i in range(0, 24, 4)]
    effective, permitted, inheritable = (words[i] | words[i + 3] << 32 for i in range(3))
    return effective, permitted, inheritable


def install_filter(program_address: int, flags: int) -> None:
    """seccomp(2) ``SECCOMP_SET_MODE_FILTER`` with a ``struct sock_fprog`` at ``program_address``."""
    laggard = syscall(SYS_SECCOMP, 1, flags, program_address)
    if laggard:  # SECCOMP_FILTER_FLAG_TSYNC names a thread it could not bring along
        raise OSError(errno.EBUSY, f"thread {laggard} has another seccomp filter")
