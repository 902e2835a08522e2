"""Texts of /proc about the computer (proc(5)), and the few that prong itself tells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prong.cell.fs.dirs import OverlayDir
from prong.cell.fs.proc import processor
from prong.cell.fs.proc.nodes import FIXED, LINKS, text
from prong.cell.refusals import ADVICE
from prong.cell.task import system as task_system

if TYPE_CHECKING:
    from prong.cell.fs.volume import Volume
    from prong.cell.kernel import Kernel

RELEASE, VERSION = task_system.RELEASE.decode(), task_system.VERSION.decode()
NS = 1_000_000_000

FIXED.update(
    {
        "proc/filesystems": "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\toverlay\n",
        "proc/version": f"Linux version {RELEASE} (prong) {VERSION}\n",
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/sys/kernel/ostype": "Linux\n",
        "proc/sys/kernel/version": f"{VERSION}\n",
        "proc/sys/kernel/pid_max": "32768\n",
        "proc/sys/kernel/cap_last_cap": "40\n",
        "proc/sys/kernel/ngroups_max": "65536\n",
        "proc/sys/kernel/randomize_va_space": "2\n",
        "proc/sys/kernel/core_pattern": "core\n",
        "proc/sys/kernel/random/entropy_avail": "256\n",
        "proc/sys/kernel/random/poolsize": "256\n",
        "proc/sys/kernel/shmmax": "18446744073692774399\n",
        "proc/sys/kernel/shmall": "18446744073692774399\n",
        "proc/sys/kernel/yama/ptrace_scope": "0\n",
        "proc/sys/vm/overcommit_memory": "1\n",
        "proc/sys/vm/max_map_count": "65530\n",
        "proc/sys/vm/mmap_min_addr": "65536\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/sys/fs/file-max": "9223372036854775807\n",
        "proc/sys/fs/nr_open": "1048576\n",
        "proc/sys/fs/pipe-max-size": "1048576\n",
        "proc/sys/fs/inotify/max_user_watches": "8192\n",
        "proc/sys/fs/inotify/max_user_instances": "32\n",
        "proc/sys/fs/inotify/max_queued_events": "1024\n",
        "proc/sys/net/core/somaxconn": "4096\n",
        "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "proc/sys/net/ipv6/conf/all/disable_ipv6": "0\n",
        "proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
        "proc/net/tcp6": "  sl  local_address                         remote_address                        st\n",
        "proc/net/udp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
        "proc/net/unix": "Num       RefCount Protocol Flags    Type St Inode Path\n",
        "proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
        "proc/net/if_inet6": "00000000000000000000000000000001 01 80 10 80       lo\n",
        "proc/net/dev": (
            "Inter-|   Receive                                                |  Transmit\n"
            " face |bytes    packets errs drop fifo frame compressed multicast|"
            "bytes    packets errs drop fifo colls carrier compressed\n"
            "    lo:       0       0    0    0    0     0          0         0"
            "        0       0    0    0    0     0       0          0\n"
        ),
        "proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        "proc/modules": "",
        "proc/devices": "Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n",
        "proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\n",
    }
)
LINKS["proc/mounts"] = lambda kernel, tid: b"self/mounts"


def _volumes(kernel: Kernel) -> list[tuple[bytes, Volume]]:
    """The root, and every directory at depth one or two that starts another volume."""
    base = kernel.fs.base
    found = [(b"/", base.volume)]
    for name in (b"dev", b"proc", b"sys"):
        node = base.lookup(name)
        if node is None or node.volume is base.volume:
            continue
        found.append((b"/" + name, node.volume))
        shm = node.lookup(b"shm") if isinstance(node, OverlayDir) else None
        if shm is not None and shm.volume is not node.volume:
            found.append((b"/dev/shm", shm.volume))
    return found


@text("task/mounts")
def mounts(kernel: Kernel, tid: int) -> bytes:
    """What is mounted where."""
    out = b""
    for path, volume in _volumes(kernel):
        kind = volume.kind.encode()
        out += b"%s %s %s %s 0 0\n" % (kind, path, kind, b"ro" if volume.readonly else b"rw")
    return out


@text("task/mountinfo")
def mountinfo(kernel: Kernel, tid: int) -> bytes:
    """The same with numbers."""
    out = b""
    for number, (path, volume) in enumerate(_volumes(kernel), 20):
        kind, mode = volume.kind.encode(), b"ro" if volume.readonly else b"rw"
        out += b"%d %d 0:%d / %s %s - %s %s %s\n" % (number, 20 * (number > 20), volume.dev, path, mode, kind, kind, mode)
    return out


@text("proc/cpuinfo")
def cpuinfo(kernel: Kernel, tid: int) -> bytes:
    """One processor."""
    lines = (f"{name + chr(9) * (1 + (len(name) < 8))}: {value}\n" for name, value in processor.describe(kernel.cpu))
    return ("".join(lines) + "\n").encode("latin-1")


@text("proc/meminfo")
def meminfo(kernel: Kernel, tid: int) -> bytes:
    """The memory limit and what is left of it, in kB."""
    total = kernel.limits.memory // 1024
    free = max(0, total - kernel.space.resident() // 1024)
    cached = kernel.fs.quota.used // 1024
    rows = (
        ("MemTotal", total), ("MemFree", free), ("MemAvailable", free), ("Buffers", 0), ("Cached", cached),
        ("SwapCached", 0), ("Active", total - free), ("Inactive", 0), ("SwapTotal", 0), ("SwapFree", 0), ("Dirty", 0),
        ("AnonPages", total - free), ("Mapped", 0), ("Shmem", 0), ("Slab", 0), ("CommitLimit", total),
        ("Committed_AS", total - free), ("VmallocTotal", 34359738367), ("VmallocUsed", 0),
    )  # fmt: skip
    lines = [f"{name + ':':<16}{value:8} kB\n" for name, value in rows]
    return ("".join(lines) + "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n").encode()


@text("proc/stat")
def stat(kernel: Kernel, tid: int) -> bytes:
    """CPU time since boot in ticks."""
    user = kernel.process.cpu_ns // 10_000_000
    idle = max(0, kernel.clock.monotonic() // 10_000_000 - user)
    cpu = f"{user} 0 0 {idle} 0 0 0 0 0 0"
    boot = kernel.clock.boot_real // NS
    rest = f"intr 0\nctxt 0\nbtime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"
    return f"cpu  {cpu}\ncpu0 {cpu}\n{rest}".encode()


@text("proc/uptime")
def uptime(kernel: Kernel, tid: int) -> bytes:
    """Seconds since boot, and idle ones."""
    now = kernel.clock.monotonic()
    return f"{now / NS:.2f} {max(0, now - kernel.process.cpu_ns) / NS:.2f}\n".encode()


@text("proc/loadavg")
def loadavg(kernel: Kernel, tid: int) -> bytes:
    """No average is kept."""
    return f"0.00 0.00 0.00 1/{len(kernel.sched.tasks)} {kernel.sched.next_tid - 1}\n".encode()


@text("proc/cmdline")
def cmdline(kernel: Kernel, tid: int) -> bytes:
    """There is no kernel that was given a command line."""
    return b"\n"


@text("proc/sys/kernel/hostname", "told/hostname")
def hostname(kernel: Kernel, tid: int) -> bytes:
    """The cell's name."""
    return kernel.process.hostname + b"\n"


@text("proc/sys/kernel/domainname")
def domainname(kernel: Kernel, tid: int) -> bytes:
    """The cell's domain."""
    return kernel.process.domainname + b"\n"


@text("told/machine-id")
def machine_id(kernel: Kernel, tid: int) -> bytes:
    """machine-id(5)."""
    return kernel.process.machine_id + b"\n"


@text("told/generation")
def generation(kernel: Kernel, tid: int) -> bytes:
    """An id no other fork has, after how many forks led here; a program that sees it change must forget its secrets."""
    return b"%d-%s\n" % (kernel.process.generation, kernel.process.machine_id[:16])


@text("proc/sys/kernel/random/boot_id")
def boot_id(kernel: Kernel, tid: int) -> bytes:
    """New for every fork."""
    return kernel.process.boot_id + b"\n"


@text("proc/sys/kernel/random/uuid")
def random_uuid(kernel: Kernel, tid: int) -> bytes:
    """New at every read."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode() + b"\n"


@text("proc/sys/kernel/threads-max")
def threads_max(kernel: Kernel, tid: int) -> bytes:
    """The limit on threads."""
    return b"%d\n" % kernel.limits.threads


@text("proc/prong/refusals")
def refusals(kernel: Kernel, tid: int) -> bytes:
    """What was refused by design, as one JSON object."""
    import json  # only the test runner reads this; other cells need not pay for the module

    log = kernel.refusals
    calls = [
        {"kind": r.kind, "call": r.call, "detail": r.detail, "count": n, "advice": ADVICE[r.kind]}
        for r, n in log.counts.items()
    ]
    return (json.dumps({"total": log.total, "calls": calls}) + "\n").encode()
