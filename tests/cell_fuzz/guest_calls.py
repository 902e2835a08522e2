"""Runs inside a cell: random system calls from several threads. Arguments: seed, calls of each thread, threads.

Arguments come from pools that make sense now and then: open descriptors of every kind, buffers with paths and structures
in them, ends of mappings, and numbers at the edges. Calls that end the process or block for ever are rare, not absent.
"""

import ctypes
import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
from typing import Any

libc = ctypes.CDLL(None)
libc.syscall.restype = ctypes.c_long
PAGE = 4096
ARENA = 0x200000000000
DEADLY = [15, 60, 62, 129, 158, 200, 231, 234, 297]
"""sigreturn, exit, kill and relatives, arch_prctl: one time in two thousand."""
RARE = [3, 7, 9, 10, 11, 12, 13, 14, 23, 25, 34, 35, 61, 130, 202, 230, 232, 247, 270, 271, 281, 436]
"""Closing, unmapping, waiting: one time in fifty."""
numbers = [n for n in range(0, 463) if n not in RARE + DEADLY]


def descriptors() -> list[int]:
    """One open descriptor of every kind there is."""
    a, b = socket.socketpair()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = socket.create_connection(listener.getsockname())
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    poll = select.epoll()
    poll.register(a)
    keep.extend([a, b, listener, client, udp, unix, poll])
    for s in (a, b, listener, client, udp, unix):
        s.setblocking(False)
    file = os.open("/tmp/fuzz", os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(range(256)) * 50)
    r, w = os.pipe2(os.O_NONBLOCK)
    found = [0, 1, 2, file, r, w, os.open("/tmp", os.O_RDONLY), os.open("/proc", os.O_RDONLY), os.memfd_create("m")]
    found += [os.eventfd(3, os.EFD_NONBLOCK), os.open("/dev/null", os.O_RDWR), os.open("/dev/zero", os.O_RDONLY)]
    found += [os.open("/proc/self/maps", os.O_RDONLY), os.open("/usr", os.O_PATH), os.open("/proc/self/fd", os.O_RDONLY)]
    found += [s.fileno() for s in keep]
    for call, args in ((283, (1, 0o4000)), (289, (-1, ctypes.addressof(bufs[0]), 8, 0o4000)), (294, (0o4000,))):
        found.append(libc.syscall(call, *args))  # timerfd, signalfd, inotify
    return [fd for fd in found if fd >= 0]


keep: list[Any] = []
bufs = [ctypes.create_string_buffer(3 * PAGE) for _ in range(12)]
edge = mmap.mmap(-1, 2 * PAGE)
edge_at = ctypes.addressof(ctypes.c_char.from_buffer(edge)) + PAGE
libc.syscall(10, ctypes.c_ulong(edge_at), ctypes.c_ulong(PAGE), 0)
paths = [
    b"/tmp/fuzz",
    b"/tmp",
    b"/tmp/a",
    b"/tmp/d/e",
    b"",
    b"/",
    b".",
    b"..",
    b"/proc/self/stat",
    b"/proc/self/fd/3",
    b"x" * 300,
]
paths += [
    b"/tmp/" + b"a/" * 2500,
    b"/dev/null",
    b"/dev/stdin",
    b"/usr/bin/python3",
    b"/tmp/\xff\xfe",
    b"/proc/1000/task",
    b"user.x",
]


def scramble(rng: random.Random) -> None:
    """New contents for one buffer: a path, noise, small numbers, iovecs, pointers, timespecs, a socket address."""
    buf = rng.choice(bufs)
    base = ctypes.addressof(rng.choice(bufs))
    kind = rng.randrange(7)
    if kind == 0:
        data = rng.choice(paths) + b"\0"
    elif kind == 1:
        data = rng.randbytes(256)
    elif kind == 2:
        data = struct.pack("<32Q", *(rng.choice([0, 1, 2, 7, 100, 4096]) for _ in range(32)))
    elif kind == 3:
        data = b"".join(
            struct.pack("<QQ", base + rng.randrange(PAGE), rng.choice([0, 1, 100, 5000, 1 << 62])) for _ in range(20)
        )
    elif kind == 4:
        data = struct.pack("<4q", 0, rng.choice([0, 1, 999, 1000000, -1, 10**9]), 0, rng.randrange(10**6))
    elif kind == 5:
        data = (
            struct.pack("<HHI8x", rng.choice([1, 2, 10, 16]), rng.randrange(65536), rng.choice([0, 0x0100007F]))
            + rng.choice(paths)[:90]
        )
    else:
        data = (
            struct.pack(
                "<7Q", base, rng.choice([0, 16, 110]), base, rng.choice([1, 3, 1025]), base, rng.choice([0, 16, 64]), 0
            )
            * 3
        )
    ctypes.memmove(buf, data[: 2 * PAGE], min(len(data), 2 * PAGE))


def argument(rng: random.Random, fds: list[int]) -> int:
    kind = rng.randrange(12)
    if kind < 3:
        return ctypes.addressof(rng.choice(bufs)) + rng.choice([0, 0, 0, 1, 8, 64, PAGE])
    if kind < 6:
        return rng.choice(fds)
    if kind == 6:
        return rng.randrange(0, 70)
    if kind == 7:
        return 1 << rng.randrange(64)
    if kind == 8:
        return rng.choice(
            [
                0,
                1,
                8,
                16,
                100,
                4096,
                65536,
                1 << 20,
                (1 << 31) - 1,
                1 << 31,
                (1 << 32) - 1,
                1 << 40,
                (1 << 63) - 1,
                1 << 63,
                -1 & (1 << 64) - 1,
                -100 & (1 << 64) - 1,
            ]
        )
    if kind == 9:
        return rng.choice(
            [edge_at, edge_at - 4, edge_at - 1, 0x7FFFFFFF0000, 0x7FFFFFFF5000, 1 << 47, 0xFFFF800000000000, 0x10000, 8]
        )
    if kind == 10:
        return ARENA + rng.randrange(64) * PAGE
    return rng.getrandbits(rng.choice([3, 8, 16, 32, 64]))


def memory_call(rng: random.Random) -> tuple[int, list[int]]:
    """A call of mmap's family that keeps to the arena, so that the interpreter lives on."""
    at, size = ARENA + rng.randrange(64) * PAGE, rng.randrange(0, 20) * PAGE
    call = rng.choice([9, 10, 11, 25, 26, 27, 28, 149])
    if call == 9:
        return 9, [
            at,
            size,
            rng.randrange(8),
            0x10 | rng.choice([0x22, 0x21, 1, 2, 0x8022]),
            rng.choice(fds_all),
            rng.randrange(4) * PAGE,
        ]
    if call == 25:
        return 25, [at, size, rng.randrange(20) * PAGE, 3, ARENA + rng.randrange(64) * PAGE]
    return call, [at, size, rng.choice([0, 1, 3, 4, 5, 7, 8, 22])]


def worker(seed: int, calls: int) -> None:
    rng = random.Random(seed)
    for i in range(calls):
        if i % 3 == 0:
            scramble(rng)
        pick = rng.random()
        if pick < 0.12:
            number, args = memory_call(rng)
        else:
            pool = DEADLY if pick > 0.9995 else RARE if pick > 0.98 else numbers
            number = rng.choice(pool) if pick < 0.97 or pick > 0.98 else rng.getrandbits(rng.choice([10, 32, 64]))
            args = [argument(rng, fds_all) for _ in range(6)]
        libc.syscall(ctypes.c_ulong(number), *[ctypes.c_ulong(a) for a in args])


for n in (signal.SIGALRM, signal.SIGUSR1, signal.SIGIO, signal.SIGPIPE, signal.SIGPROF, signal.SIGVTALRM):
    signal.signal(n, signal.SIG_IGN)
fds_all = descriptors()
seed, calls, threads = (int(a) for a in sys.argv[1:4])
workers = [threading.Thread(target=worker, args=(seed * 1000 + i, calls), daemon=True) for i in range(threads)]
for w in workers:
    w.start()
for w in workers:
    w.join()
