"""Hostile arguments: whatever a program passes, a handler only ever raises SysErr or Wait. Seeded and replayable."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from prong.cell.core.table import TABLE
from prong.cell.fs.content import Quota
from tests.cell_fs.box import BASE, MASK, MIB, Box, Fails, Parked, make_tree

CALLS = sorted(name for handler, _, name in TABLE.values() if handler.__module__.startswith("prong.cell.fs.calls"))
TEXTS = [b"", b"/", b".", b"..", b"/d/a", b"/d", b"/lib/small", b"/loop", b"/dangling", b"/tmp", b"x", b"y", b"/tmp/x",
         b"/proc/self/fd/0", b"/proc/self/fd/3", b"/proc/self/maps", b"/proc/self/task/1000/comm", b"/proc/self/exe",
         b"/proc/self/cwd/d", b"/dev/null", b"/dev/zero", b"/dev/tty", b"/dev/stdin", b"/dev/shm/s", b"/proc", b"/sys",
         b"/proc/self/fd", b"/sys/devices/system/cpu/online", b"/etc/hostname", b"n" * 255, b"n" * 256, b"a/" * 2047,
         b"user.x", b"trusted.y", b"security.z", b"/usr/lib/big", b"\xff\xfe", b"/d/e/up/e/up/a", b"/pipe"]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 16, 100, 255, 256, 1000, 4095, 4096, 65536, 0x1000, 0o100, 0o102, 0o1102, 0o2000, 0o40000,
           0o200000, 0o20200002, 0o10000000, 0o4000, 0x541B, 0x5421, 0x5413, 1030, 1033, 0x7FFFFFFF, 0x80000000,
           0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, MASK, MASK - 99, 0x7FFFF000]  # fmt: skip


def one_call(rng: random.Random, box: Box) -> str:
    """A random call; pointers lead to texts, to random bytes, to nothing."""
    where = []
    for i in range(4):
        at = BASE + 8192 * i
        kind = rng.random()
        if kind < 0.6:
            box.mem.write(at, rng.choice(TEXTS) + b"\0")
        elif kind < 0.8:
            box.mem.write(at, rng.randbytes(64))
        else:
            values = [rng.choice([*NUMBERS, BASE, BASE + 100]) for _ in range(8)]
            box.mem.write(at, b"".join((v & MASK).to_bytes(8, "little") for v in values))
        where.append(at)
    name = rng.choice(CALLS)
    pool = [rng.choice(NUMBERS), rng.randrange(8), rng.choice(where), rng.choice(where), MASK - 99, rng.getrandbits(64),
            len(box.mem.data) + BASE - rng.randrange(64)]  # fmt: skip
    args = [rng.choice(pool) for _ in range(6)]
    with contextlib.suppress(Fails, Parked):
        box.raw(name, *args)
    if rng.random() < 0.8:
        box.again()
    return f"{name}({', '.join(map(hex, args))})"


@pytest.mark.parametrize("seed", range(int(os.environ.get("PRONG_FUZZ_SEEDS", "4"))))
def test_only_errors_come_out(seed: int, tmp_path: Path) -> None:
    make_tree(tmp_path)
    box = Box(tmp_path, overlay=4 * MIB, memory=MIB)
    rng = random.Random(seed)
    done = "nothing"
    try:
        for step in range(2500):
            if step % 100 == 0:
                box.kernel.fds.limit = rng.choice([4, 64])
                for path in rng.sample(TEXTS, 4):
                    try:
                        box.open(path, rng.choice([0, 2, 0o102]))
                    except (Fails, Parked):
                        box.again()
            try:
                done = one_call(rng, box)
            except Exception as error:
                raise AssertionError(f"seed {seed}, step {step}, after {done}: {error!r}") from error
            assert 0 <= box.fs.quota.used <= box.fs.quota.limit
    finally:
        box.fs.image.close()


def test_the_list_of_calls_is_whole() -> None:
    assert len(CALLS) > 110 and "openat" in CALLS and "fsetxattr" in CALLS


def test_everything_removed_gives_the_quota_back(tmp_path: Path) -> None:
    make_tree(tmp_path)
    box = Box(tmp_path, overlay=8 * MIB)
    before = box.fs.quota.used
    rng = random.Random(1)
    names = [b"/tmp/%d" % i for i in range(30)]
    for _ in range(2000):
        try:
            choices: list[Callable[[], object]] = [
                lambda: box.put(rng.choice(names), rng.randbytes(rng.choice([0, 10, 70000]))),
                lambda: box.sys("mkdirat", -100, rng.choice(names), 0o755),
                lambda: box.sys("linkat", -100, rng.choice(names), -100, rng.choice(names), 0),
                lambda: box.sys("symlinkat", b"/d/a", -100, rng.choice(names)),
                lambda: box.sys("renameat2", -100, rng.choice(names), -100, rng.choice(names), rng.choice([0, 2])),
                lambda: box.sys("unlinkat", -100, rng.choice(names), rng.choice([0, 0x200])),
                lambda: box.sys("truncate", rng.choice(names), rng.choice([0, 5, 100000])),
                lambda: box.sys("lsetxattr", rng.choice(names), b"user.a", b"v" * 50, 50, 0),
            ]  # fmt: skip
            rng.choice(choices)()
        except Fails:
            continue
    for name in names:
        for flag in (0, 0x200):
            try:
                box.sys("unlinkat", -100, name, flag)
            except Fails:
                continue
    assert box.listdir(b"/tmp") == [(b".", 4), (b"..", 4)]
    assert box.fs.quota.used == before


def test_quota_counts_exactly() -> None:
    quota = Quota(100)
    quota.charge(100)
    with pytest.raises(Exception, match="ENOSPC"):
        quota.charge(1)
    quota.refund(40)
    assert quota.used == 60
