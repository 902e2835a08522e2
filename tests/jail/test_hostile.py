"""A hostile VMM in a real jail: every attempt fails, and the table says which layer stopped it.

Each is made three times: outside of any jail, where it must succeed (else it proves nothing), in a jail whose filter is
not on, where the layer behind the filter must stop it, and sealed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest

from prong.cell.jail.layers import Layer
from tests.jail import attacks, needs
from tests.jail.harness import ROOT, WHO, Order, Run, Stage, run, stage, start

Jailed = Callable[[str, str], Run]
KILLED = "SIGSYS"
NO_MODULE = "ModuleNotFoundError: wave was not imported before the jail closed; add it to preload()"

# attack: (outcome sealed, outcome without the filter, the layer that stops it without the filter).
# None: only the filter stands in its way, or what else does depends on the host.
TABLE: dict[str, tuple[str, str | None, Layer | None]] = {
    "open_host_file": ("ENOENT", "ENOENT", Layer.ROOT),
    "open_host_file_by_dotdot": ("ENOENT", "ENOENT", Layer.ROOT),
    "open_host_file_by_symlink": ("ENOENT", "ENOENT", Layer.ROOT),
    "open_proc": ("ENOENT", "ENOENT", Layer.ROOT),
    "open_host_device": ("ENOENT", "ENOENT", Layer.ROOT),
    "write_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "append_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "create_in_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "create_unnamed_in_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "write_image_by_openat2": ("ENOSYS", "EROFS", Layer.MOUNT_FLAGS),
    "truncate_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "unlink_image": ("EPERM", "EROFS", Layer.MOUNT_FLAGS),
    "open_device_node_of_image": ("EACCES", "EACCES", Layer.MOUNT_FLAGS),
    "open_by_handle": (KILLED, "EPERM", Layer.CAPABILITIES),
    "connect_inet": (KILLED, "ENETUNREACH", Layer.NETWORK_NAMESPACE),
    "connect_unix": (KILLED, "ENOENT", Layer.ROOT),
    "connect_abstract": (KILLED, "ECONNREFUSED", Layer.NETWORK_NAMESPACE),
    "bring_up_interface": (KILLED, "EPERM", Layer.CAPABILITIES),
    "netlink": (KILLED, None, None),
    "make_socketpair": (KILLED, None, None),
    "reconnect_given_socket": (KILLED, None, None),
    "sendto_with_address": ("EPERM", None, None),
    "pidfd_of_peer": ("EPERM", None, None),
    "ptrace_sibling": (KILLED, "EPERM", Layer.DUMPABLE),
    "read_sibling_memory": (KILLED, "EPERM", Layer.DUMPABLE),
    "kill_sibling": (KILLED, None, None),
    "kill_everyone": (KILLED, None, None),
    "kill_spawner": (KILLED, None, None),
    "kill_host_process": (KILLED, "ESRCH", Layer.PID_NAMESPACE),
    "tgkill_sibling": ("EPERM", None, None),
    "queue_signal_to_sibling": (KILLED, None, None),
    "pidfd_of_sibling": (KILLED, None, None),
    "steal_descriptor_of_sibling": (KILLED, "EPERM", Layer.DUMPABLE),
    "own_a_pipe_for_sibling": ("EPERM", None, None),
    "choose_signal_of_pipe": ("EPERM", None, None),
    "signal_by_async_pipe": ("EPERM", None, None),
    "limits_of_sibling": ("EPERM", None, None),
    "affinity_of_sibling": ("EPERM", None, None),
    "priority_of_sibling": ("EPERM", None, None),
    "compare_with_sibling": (KILLED, "EPERM", Layer.DUMPABLE),
    "mount_tmpfs": (KILLED, "EPERM", Layer.CAPABILITIES),
    "remount_writable": (KILLED, "EPERM", Layer.CAPABILITIES),
    "clear_read_only": (KILLED, "EPERM", Layer.CAPABILITIES),
    "umount_root": (KILLED, "EPERM", Layer.CAPABILITIES),
    "pivot_again": (KILLED, "EPERM", Layer.CAPABILITIES),
    "clone_mount_tree": (KILLED, "EPERM", Layer.CAPABILITIES),
    "chroot": (KILLED, "EPERM", Layer.CAPABILITIES),
    "unshare_user": (KILLED, "ENOSPC", Layer.NESTING),
    "unshare_network": (KILLED, "EPERM", Layer.CAPABILITIES),
    "setns_by_pidfd": (KILLED, "EPERM", Layer.CAPABILITIES),
    "clone_into_user_namespace": (KILLED, "ENOSPC", Layer.NESTING),
    "clone_into_pid_namespace": (KILLED, "EPERM", Layer.CAPABILITIES),
    "clone_sharing_descriptors": ("EPERM", None, None),
    "clone_as_sibling": (KILLED, None, None),
    "clone3_plain": ("ENOSYS", None, None),
    "execute_program_of_image": (KILLED, "EACCES", Layer.MOUNT_FLAGS),
    "execute_memfd": ("EPERM", "EFBIG", Layer.RLIMITS),
    "make_memfd": ("EPERM", None, None),
    "map_executable": ("EPERM", None, None),
    "make_executable": ("EPERM", None, None),
    "make_executable_with_key": ("EPERM", None, None),
    "reading_implies_executing": (KILLED, None, None),
    "shared_memory_segment": ("EPERM", None, None),
    "merge_pages_with_siblings": ("EPERM", None, None),
    "allocate_beyond_limit": ("ENOMEM", "ENOMEM", Layer.RLIMITS),
    "import_from_image": (NO_MODULE, NO_MODULE, Layer.IMPORTS),
    "call_as_i386": (KILLED, None, None),
    "call_as_x32": (KILLED, None, None),
    "io_uring": (KILLED, None, None),
    "bpf": (KILLED, "EPERM", Layer.CAPABILITIES),
    "userfaultfd": (KILLED, None, None),
    "keyctl": (KILLED, None, None),
    "add_key": (KILLED, None, None),
    "perf_event": (KILLED, None, None),
    "push_terminal_input": ("EPERM", None, None),
    "set_owner_by_ioctl": ("EPERM", None, None),
    "read_kernel_log": (KILLED, None, None),
    "modify_ldt": (KILLED, None, None),
    "setuid_root": (KILLED, "EINVAL", Layer.USER_NAMESPACE),
    "all_capabilities": (KILLED, "EPERM", Layer.CAPABILITIES),
    "raise_limit": ("EPERM", "EPERM", Layer.RLIMITS),
    "become_dumpable": ("EPERM", None, None),
    "allow_tracers": ("EPERM", None, None),
    "set_host_name": (KILLED, "EPERM", Layer.CAPABILITIES),
    "settle_clock": (KILLED, None, None),
    "mknod_device": (KILLED, "EROFS", Layer.MOUNT_FLAGS),
}
TRIED_ALONE = {"fork_bomb"}

# Not tried on the host itself: they would harm it, or are refused there too for a reason of the host's or their own.
NO_CONTROL = {
    *("mount_tmpfs", "remount_writable", "clear_read_only", "umount_root", "pivot_again", "set_host_name"),
    *("settle_clock", "mknod_device", "reconnect_given_socket", "sendto_with_address", "push_terminal_input"),
    *("allow_tracers", "raise_limit", "all_capabilities", "call_as_x32"),
    # switched off, or missing, on some hosts
    *("io_uring", "bpf", "userfaultfd", "perf_event", "call_as_i386", "pidfd_of_peer", "modify_ldt", "unshare_user"),
    *("clone_into_user_namespace", "read_kernel_log", "keyctl", "add_key", "merge_pages_with_siblings"),
}
# An ordinary user may not do these outside either.
ROOTS_OWN = {
    *("open_by_handle", "bring_up_interface", "clone_mount_tree", "chroot", "unshare_network", "setns_by_pidfd"),
    *("clone_into_pid_namespace", "setuid_root"),
}
PROGRAM_RAN = ("execute_program_of_image", "execute_memfd")
NEEDS_DEVICE_NODE = "open_device_node_of_image"


@pytest.fixture(scope="module")
def set_up() -> Iterator[Stage]:
    with stage() as built:
        yield built


@pytest.fixture(scope="module")
def jailed(set_up: Stage) -> Jailed:
    """All attacks in one jail for each way of entering it, run when first asked for."""

    @functools.cache
    def outcomes(who: str, mode: str) -> Run:
        skipped = NO_CONTROL if mode == "outside" else set()
        return run(Order(set_up, who, mode, [name for name in TABLE if name not in skipped]))

    return outcomes


def test_every_attack_is_in_the_table() -> None:
    assert TABLE.keys() == attacks.NAMES - TRIED_ALONE


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", [name for name in TABLE if name not in NO_CONTROL])
def test_the_attack_is_a_real_one(jailed: Jailed, who: str, name: str) -> None:
    if name == NEEDS_DEVICE_NODE and not ROOT:
        pytest.skip("only root can put a device node into the image")
    if name in ROOTS_OWN and who != "root":
        pytest.skip("an ordinary user cannot do it outside of the jail either")
    assert jailed(who, "outside").outcomes[name] == ("exit 0" if name in PROGRAM_RAN else "done")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", [name for name, (_, bare, _) in TABLE.items() if bare])
def test_a_layer_behind_the_filter_stops_it(jailed: Jailed, who: str, name: str) -> None:
    if name == NEEDS_DEVICE_NODE and not ROOT:
        pytest.skip("only root can put a device node into the image")
    _, bare, layer = TABLE[name]
    assert layer is not None
    assert jailed(who, "bare").outcomes[name] == bare, f"{layer.value} should have stopped it"


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["sealed", "born_sealed"])
@pytest.mark.parametrize("name", TABLE)
def test_the_sealed_host_is_stopped(jailed: Jailed, who: str, mode: str, name: str) -> None:
    if name == NEEDS_DEVICE_NODE and not ROOT:
        pytest.skip("only root can put a device node into the image")
    expected, bare, layer = TABLE[name]
    by = layer if expected == bare and layer else Layer.SECCOMP
    assert jailed(who, mode).outcomes[name] == expected, f"{by.value} should have stopped it"


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["sealed", "born_sealed"])
def test_a_fork_bomb_runs_into_the_limit(set_up: Stage, who: str, mode: str) -> None:
    done = run(Order(set_up, who, mode, ["fork_bomb", "open_host_file"], rlimits={"processes": 40}))
    assert done.outcomes == {"fork_bomb": "EAGAIN", "open_host_file": "ENOENT"}  # and the spawner goes on afterwards


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["sealed", "born_sealed"])
@pytest.mark.parametrize("name", [name for name in needs.NAMES if name != "run_a_guest"])
def test_what_a_vmm_needs_works(set_up: Stage, who: str, mode: str, name: str) -> None:
    assert attempt(set_up, who, mode, name) == "done"


@pytest.mark.kvm
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["sealed", "born_sealed"])
def test_a_sealed_host_runs_a_guest(set_up: Stage, who: str, mode: str) -> None:
    """The device was opened before; inside there is none, and this user could not open it anyway."""
    assert attempt(set_up, who, mode, "run_a_guest") == "done"


def attempt(set_up: Stage, who: str, mode: str, name: str) -> str:
    """One need in one jail; a descriptor waits on its socket, in case it is received."""
    started = start(Order(set_up, who, mode, [name], kvm=name == "run_a_guest"))
    started.send_a_pipe()
    return started.finish().outcomes[name]
