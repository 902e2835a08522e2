"""The system calls a cell has no use for: privileged ones are refused and recorded, absent ones answer ENOSYS."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import syscall

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PRIVILEGED = """
    init_module finit_module delete_module kexec_load kexec_file_load reboot iopl ioperm bpf unshare setns
    perf_event_open userfaultfd ptrace process_vm_readv process_vm_writev kcmp vhangup syslog
"""
"""EPERM, with a line in the refusal log."""

ABSENT = """
    keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register mbind set_mempolicy get_mempolicy
    set_mempolicy_home_node migrate_pages move_pages io_setup io_destroy io_getevents io_submit io_cancel
    io_pgetevents landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_madvise
    process_mrelease lookup_dcookie modify_ldt ioprio_set ioprio_get set_thread_area get_thread_area
"""
"""ENOSYS, as from a kernel built without them."""


def _privileged(name: str) -> None:
    @syscall(name)
    def refused(kernel: Kernel, task: Task) -> int:
        raise kernel.refusals.refuse("privilege", name)


def _absent(name: str) -> None:
    @syscall(name)
    def absent(kernel: Kernel, task: Task) -> int:
        raise SysErr(errno.ENOSYS)


for _name in PRIVILEGED.split():
    _privileged(_name)
for _name in ABSENT.split():
    _absent(_name)
