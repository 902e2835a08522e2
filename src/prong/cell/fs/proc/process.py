"""Texts of /proc/PID and /proc/PID/task/TID (proc(5)). The second argument of every function is the thread's id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.fs.proc.nodes import taker, text
from prong.cell.process import PID, RLIM_INFINITY, RLIMIT_NOFILE
from prong.cell.task.task import TaskState

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PAGE = 4096
TICK = 10_000_000
"""Nanoseconds of a clock tick (USER_HZ is 100)."""
ALL_CAPS = (1 << 41) - 1
LIMITS = (
    (0, "Max cpu time", "seconds"),
    (1, "Max file size", "bytes"),
    (2, "Max data size", "bytes"),
    (3, "Max stack size", "bytes"),
    (4, "Max core file size", "bytes"),
    (5, "Max resident set", "bytes"),
    (6, "Max processes", "processes"),
    (7, "Max open files", "files"),
    (8, "Max locked memory", "bytes"),
    (9, "Max address space", "bytes"),
    (10, "Max file locks", "locks"),
    (11, "Max pending signals", "signals"),
    (12, "Max msgqueue size", "bytes"),
    (13, "Max nice priority", ""),
    (14, "Max realtime priority", ""),
    (15, "Max realtime timeout", "us"),
)


def _task(kernel: Kernel, tid: int) -> Task | None:
    return kernel.sched.tasks.get(tid)


def name_of(kernel: Kernel, tid: int) -> bytes:
    """A thread's name, else the program's, at most 15 bytes."""
    task = _task(kernel, tid)
    if task is not None and task.name:
        return task.name[:15]
    return kernel.process.exe.rsplit(b"/", 1)[-1][:15]


def _state(kernel: Kernel, tid: int) -> str:
    task = _task(kernel, tid)
    if task is None:
        return "Z (zombie)"
    return "S (sleeping)" if task.state is TaskState.BLOCKED else "R (running)"


def sizes(kernel: Kernel) -> tuple[int, int, int, int, int]:
    """Bytes: mapped, resident, and mapped as program text, as data, as stack."""
    total = code = data = stack = 0
    for start, end, prot, _offset, _dev, _ino, name in kernel.space.regions():
        size = end - start
        if prot[:3] != "---":
            total += size
        if name == "[stack]":
            stack += size
        elif prot[2] == "x":
            code += size
        elif prot[1] == "w":
            data += size
    return total, min(total, kernel.space.resident()), code, data, stack


@text("task/maps")
def maps(kernel: Kernel, tid: int) -> bytes:
    """Mappings."""
    return "".join(line for line, _size in _map_lines(kernel)).encode("utf-8", "surrogateescape")


def _map_lines(kernel: Kernel) -> list[tuple[str, int]]:
    lines = []
    for start, end, prot, offset, dev, ino, name in kernel.space.regions():
        head = f"{start:08x}-{end:08x} {prot} {offset:08x} {dev} {ino} "
        name = name.replace("\n", "\\012")
        lines.append((f"{head:<73}{name}\n" if name else f"{head}\n", end - start))
    return lines


@text("task/smaps")
def smaps(kernel: Kernel, tid: int) -> bytes:
    """Mappings with sizes; every page counts as resident, since pages are not counted by mapping."""
    out = []
    for line, size in _map_lines(kernel):
        kib = size // 1024
        out.append(f"{line}Size:           {kib:8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n")
        out.append(f"Rss:            {kib:8} kB\nPss:            {kib:8} kB\nVmFlags: rd\n")
    return "".join(out).encode("utf-8", "surrogateescape")


@text("task/smaps_rollup")
def smaps_rollup(kernel: Kernel, tid: int) -> bytes:
    """The sum."""
    resident = sizes(kernel)[1] // 1024
    head = f"{0:08x}-{0x7FFFFFFFF000:08x} ---p 00000000 00:00 0 "
    return f"{head:<73}[rollup]\nRss:            {resident:8} kB\nPss:            {resident:8} kB\n".encode()


@text("task/statm")
def statm(kernel: Kernel, tid: int) -> bytes:
    """Sizes in pages."""
    total, resident, code, data, stack = (n // PAGE for n in sizes(kernel))
    return f"{total} {resident} 0 {code} 0 {data + stack} 0\n".encode()


@text("task/stat")
def stat(kernel: Kernel, tid: int) -> bytes:
    """One line of numbers."""
    total, resident, *_ = sizes(kernel)
    process = kernel.process
    whole = tid == PID
    task = _task(kernel, tid)
    cpu = (process.cpu_ns if whole or task is None else task.cpu_ns) // TICK
    limit = process.rlimits.get(5, (RLIM_INFINITY, 0))[0]
    fields = [
        tid, f"({name_of(kernel, tid).decode('utf-8', 'replace')})", _state(kernel, tid)[0], 1, PID, PID, 0, -1, 0x400000,
        process.faults, 0, 0, 0, cpu, 0, 0, 0, 20, 0, len(kernel.sched.tasks), 0, process.started_ns // TICK, total,
        resident // PAGE, limit, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        (process.exit_status or 0),
    ]  # fmt: skip
    return (" ".join(map(str, fields)) + "\n").encode()


@text("task/status")
def status(kernel: Kernel, tid: int) -> bytes:
    """Lines of ``Name: value``."""
    total, resident, code, data, stack = (n // 1024 for n in sizes(kernel))
    task = _task(kernel, tid)
    blocked = task.sigmask if task is not None else 0
    fds = kernel.fds.limit
    who = kernel.process.credentials
    effective, permitted, inheritable = (f"{c:016x}" for c in who.caps)
    lines = [
        f"Name:\t{name_of(kernel, tid).decode('utf-8', 'replace')}",
        f"Umask:\t{kernel.fs.umask:04o}",
        f"State:\t{_state(kernel, tid)}",
        f"Tgid:\t{PID}", "Ngid:\t0", f"Pid:\t{tid}", "PPid:\t1", "TracerPid:\t0",
        "Uid:\t" + "\t".join(map(str, who.uids)), "Gid:\t" + "\t".join(map(str, who.gids)), f"FDSize:\t{min(fds, 256)}",
        "Groups:\t" + " ".join(map(str, who.groups)),
        f"VmPeak:\t{total:8} kB", f"VmSize:\t{total:8} kB", "VmLck:\t       0 kB", f"VmHWM:\t{resident:8} kB",
        f"VmRSS:\t{resident:8} kB", f"RssAnon:\t{resident:8} kB", "RssFile:\t       0 kB", "RssShmem:\t       0 kB",
        f"VmData:\t{data:8} kB", f"VmStk:\t{stack:8} kB", f"VmExe:\t{code:8} kB", "VmLib:\t       0 kB",
        "VmSwap:\t       0 kB", f"Threads:\t{len(kernel.sched.tasks)}", "SigQ:\t0/1024",
        f"SigBlk:\t{blocked:016x}", f"CapInh:\t{inheritable}", f"CapPrm:\t{permitted}", f"CapEff:\t{effective}",
        f"CapBnd:\t{ALL_CAPS:016x}", "CapAmb:\t0000000000000000", f"NoNewPrivs:\t{kernel.process.no_new_privs}",
        "Seccomp:\t0",
        "Cpus_allowed:\t1", "Cpus_allowed_list:\t0", "voluntary_ctxt_switches:\t0", "nonvoluntary_ctxt_switches:\t0",
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


@text("task/cmdline")
def cmdline(kernel: Kernel, tid: int) -> bytes:
    """Arguments, each ended by a NUL."""
    return b"".join(a + b"\0" for a in kernel.process.argv)


@text("task/environ")
def environ(kernel: Kernel, tid: int) -> bytes:
    """The environment at start."""
    return b"".join(e + b"\0" for e in kernel.process.environ)


@text("task/comm")
def comm(kernel: Kernel, tid: int) -> bytes:
    """The thread's name."""
    return name_of(kernel, tid) + b"\n"


@taker("task/comm")
def set_comm(kernel: Kernel, tid: int, data: bytes) -> None:
    """Rename the thread."""
    task = _task(kernel, tid)
    if task is not None:
        task.name = data.rstrip(b"\n")[:15]


@text("task/limits")
def limits(kernel: Kernel, tid: int) -> bytes:
    """The resource limits."""
    out = f"{'Limit':<26}{'Soft Limit':<21}{'Hard Limit':<21}Units     \n"
    for number, name, unit in LIMITS:
        pair = kernel.process.rlimits.get(number, (RLIM_INFINITY, RLIM_INFINITY))
        if number == RLIMIT_NOFILE:
            pair = (kernel.fds.limit, pair[1])
        soft, hard = ("unlimited" if n == RLIM_INFINITY else str(n) for n in pair)
        out += f"{name:<26}{soft:<21}{hard:<21}{unit:<10}\n"
    return out.encode()


@text("task/auxv")
def auxv(kernel: Kernel, tid: int) -> bytes:
    """The auxiliary vector the program was started with."""
    return kernel.process.auxv


@text("task/oom_score")
def oom_score(kernel: Kernel, tid: int) -> bytes:
    """Never chosen."""
    return b"0\n"


@text("task/oom_score_adj")
def oom_score_adj(kernel: Kernel, tid: int) -> bytes:
    """Not adjusted."""
    return b"0\n"


@taker("task/oom_score_adj")
def set_oom_score_adj(kernel: Kernel, tid: int, data: bytes) -> None:
    """Checked, and of no effect: there is no one else to kill."""
    try:
        value = int(data)
    except ValueError:
        raise SysErr(22) from None
    if not -1000 <= value <= 1000:
        raise SysErr(22)


@text("task/cgroup")
def cgroup(kernel: Kernel, tid: int) -> bytes:
    """The root of cgroup v2."""
    return b"0::/\n"


@text("task/io")
def io(kernel: Kernel, tid: int) -> bytes:
    """Counters; bytes are not counted."""
    return b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"


@text("task/uid_map", "task/gid_map")
def id_map(kernel: Kernel, tid: int) -> bytes:
    """Every id is itself."""
    return f"{0:10} {0:10} {0xFFFFFFFF:10}\n".encode()


@text("task/loginuid", "task/sessionid")
def loginuid(kernel: Kernel, tid: int) -> bytes:
    """Nobody logged in."""
    return b"4294967295"


@text("task/setgroups")
def setgroups(kernel: Kernel, tid: int) -> bytes:
    """Allowed."""
    return b"allow\n"


@text("task/wchan")
def wchan(kernel: Kernel, tid: int) -> bytes:
    """Not told."""
    return b"0"


@text("task/personality")
def personality(kernel: Kernel, tid: int) -> bytes:
    """Plain Linux."""
    return b"00000000\n"
