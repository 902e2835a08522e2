"""Checks of what a cell needs: processor, kernel, KVM, namespaces, seccomp. Pure: a fact in, a verdict out."""

from __future__ import annotations

import errno
import os
import re

from prong.doctor.check import Check, fail, ok, warn
from prong.doctor.facts import Cgroups, Cpu, KvmDevice, Limits, Memory, Space
from prong.kvm.probe import Verdict

GIB = 1 << 30
OLDEST_KERNEL = (5, 14)  # MADV_POPULATE_WRITE, madvise(2)
OLDEST_PYTHON = (3, 11)
DEFAULT_MAP_COUNT = 65_530  # the kernel's own default, Documentation/admin-guide/sysctl/vm.rst
USEFUL_OPEN_FILES = 4096
USEFUL_PROCESSES = 4096
USEFUL_MEMORY = 2 * GIB
USEFUL_SHM = GIB
LIMITING_CONTROLLERS = frozenset({"memory", "cpu", "pids"})
NO_OVERCOMMIT = 2


def size(count: int) -> str:
    """Bytes as a person reads them: ``1.5 GiB``."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.0f} MiB"


def check_cpu(cpu: Cpu) -> Check:
    """Cells are x86-64 programs; a missing vmx/svm flag is no verdict, since KVM can be there without it."""
    found = " ".join(filter(None, (cpu.machine, cpu.model, f"({cpu.virtualization})" if cpu.virtualization else "")))
    if cpu.machine != "x86_64":
        return fail("cpu", found, "cells need an x86-64 processor; use another host")
    return ok("cpu", found)


def check_kernel(system: str, release: str) -> Check:
    """Linux, and new enough for what the engine calls."""
    found = f"{system} {release}"
    if system != "Linux":
        return fail("kernel", found, "cells need Linux; run prong on a Linux host or in a Linux VM with nested KVM")
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return fail("kernel", found, f"upgrade to Linux {oldest} or later (sudo apt-get dist-upgrade, then reboot)")
    return ok("kernel", found)


def check_kvm_device(device: KvmDevice, user: str) -> Check:
    """``/dev/kvm`` is there and this user may open it."""
    name = "kvm device"
    if not device.present:
        return fail(
            name,
            "no /dev/kvm",
            "load the module: sudo modprobe kvm_intel (or kvm_amd); in a VM, turn on nested virtualisation for it",
        )
    if device.open_errno in (errno.EACCES, errno.EPERM):
        open_up = "" if device.group else "sudo chown root:kvm /dev/kvm && sudo chmod 0660 /dev/kvm && "
        join = f"sudo usermod -aG {device.group or 'kvm'} {user}, then log in again"
        return fail(name, f"/dev/kvm: not permitted to {user}", open_up + join)
    if device.open_errno:
        reason = os.strerror(device.open_errno)
        return fail(name, f"/dev/kvm: {reason}", "see why: sudo dmesg | grep -i kvm")
    return ok(name, "/dev/kvm opens")


def check_kvm_usable(verdict: Verdict) -> Check:
    """KVM really runs a guest: the probe's verdict, since the device alone proves nothing."""
    if verdict.usable:
        return ok("kvm", verdict.reason)
    advice = "see why: sudo dmesg | grep -i kvm; if it stays so, use another host: the device alone is not enough"
    return fail("kvm", f"cannot run a guest: {verdict.reason}", verdict.hint or advice)


def check_namespaces(problem: str) -> Check:
    """The jail around each cell's process is made of namespaces; ``problem`` is what failed, or empty."""
    if not problem:
        return ok("namespaces", "user, mount, pid, net and ipc namespaces work")
    return fail(
        "namespaces",
        problem,
        "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000 "
        "(on Ubuntu 24.04 and later: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)",
    )


def check_seccomp(actions: frozenset[str]) -> Check:
    """The jail's last wall is a seccomp filter that kills the process (seccomp(2), Linux 4.14)."""
    if "kill_process" in actions:
        return ok("seccomp", "filters work")
    return fail("seccomp", "no filters", "use a kernel built with CONFIG_SECCOMP_FILTER=y (every Debian kernel is)")


def check_cgroups(cgroups: Cgroups) -> Check:
    """Control groups are a second wall for memory, CPU and process limits; rlimits hold without them."""
    lacking = sorted(LIMITING_CONTROLLERS - set(cgroups.writable))
    where = f"v{cgroups.version} at {cgroups.path}" if cgroups.version else "none"
    if not lacking:
        return ok("cgroups", f"{where}, delegated: {', '.join(sorted(LIMITING_CONTROLLERS))}")
    return warn(
        "cgroups",
        f"{where}, not delegated: {', '.join(lacking)}",
        "limits rest on rlimits alone; for cgroups too: systemd-run --user --scope -p Delegate=yes prong …",
    )


def check_mappings(max_map_count: int) -> Check:
    """``vm.max_map_count`` bounds the mappings of one cell's process."""
    found = f"vm.max_map_count = {max_map_count}"
    if max_map_count < DEFAULT_MAP_COUNT:
        return warn("mappings", found, f"sudo sysctl -w vm.max_map_count={DEFAULT_MAP_COUNT}")
    return ok("mappings", found)


def check_limits(limits: Limits) -> Check:
    """Hard limits on open files and processes bound how many cells can live at once; each is a process."""
    found = ", ".join(
        f"{name} {'unlimited' if value < 0 else value}"
        for name, value in (
            ("open files", limits.open_files),
            ("processes", limits.processes),
            ("locked bytes", limits.memlock),
        )
    )
    low = []
    if 0 <= limits.open_files < USEFUL_OPEN_FILES:
        low.append(f"nofile {USEFUL_OPEN_FILES}")
    if 0 <= limits.processes < USEFUL_PROCESSES:
        low.append(f"nproc {USEFUL_PROCESSES}")
    if not low:
        return ok("rlimits", found)
    lines = "\\n".join(f"* hard {entry}" for entry in low)
    return warn("rlimits", found, f"printf '{lines}\\n' | sudo tee /etc/security/limits.d/prong.conf, then log in again")


def check_memory(memory: Memory) -> Check:
    """Enough memory for a template and some cells, and room to reserve address space without paying for it."""
    found = f"{size(memory.available)} available of {size(memory.total)}"
    if memory.overcommit == NO_OVERCOMMIT:
        return warn("memory", f"{found}, overcommit is off", "sudo sysctl -w vm.overcommit_memory=0")
    if memory.available < USEFUL_MEMORY:
        return warn("memory", found, f"free some: prong wants {size(USEFUL_MEMORY)} for a template and some cells")
    return ok("memory", found)


def check_shm(shm: Space | None) -> Check:
    """``/dev/shm``, where RAM-backed files live; containers often get 64 MiB of it. None if there is none."""
    remount = "sudo mount -o remount,size=50% /dev/shm (in Docker: --shm-size=4g)"
    if shm is None:
        return warn("shared memory", "no /dev/shm", "sudo mount -t tmpfs -o mode=1777 tmpfs /dev/shm")
    found = f"{size(shm.free)} free of {size(shm.total)} in {shm.path}"
    if not shm.writable:
        return warn("shared memory", f"{found}, not writable", "sudo chmod 1777 /dev/shm")
    return warn("shared memory", found, remount) if shm.free < USEFUL_SHM else ok("shared memory", found)


def check_python(version: tuple[int, int, int]) -> Check:
    """The Python that runs prong."""
    found = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return fail("python", found, "use Python 3.11 or later: sudo apt-get install python3 python3-venv")
    return ok("python", found)
