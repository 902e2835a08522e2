"""Leaving the host's namespaces, root file system and user: user_namespaces(7), pid_namespaces(7), pivot_root(2)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prong.cell.jail import capabilities, libc
from prong.cell.jail.hostfit import building
from prong.cell.jail.layers import Fact, Layer
from prong.errors import InvalidInput

_CLONE_NEWUSER = 0x1000_0000
# In this order; each is its own call so that a refusal names its layer. The user namespace, first, gives the privilege
# for the others. (name below /proc/self/ns, flag)
_NAMESPACES: dict[Layer, tuple[str, int]] = {
    Layer.ROOT: ("mnt", 0x0002_0000),
    Layer.PID_NAMESPACE: ("pid", 0x2000_0000),
    Layer.NETWORK_NAMESPACE: ("net", 0x4000_0000),
    Layer.IPC_NAMESPACE: ("ipc", 0x0800_0000),
    Layer.UTS_NAMESPACE: ("uts", 0x0400_0000),
    Layer.CGROUP_NAMESPACE: ("cgroup", 0x0200_0000),
}

_MS_REC, _MS_PRIVATE = 0x4000, 0x4_0000
_MNT_DETACH = 2
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_READ_ONLY_NOSUID_NODEV_NOEXEC = 0xF  # MOUNT_ATTR_{RDONLY,NOSUID,NODEV,NOEXEC}
_STATVFS_FLAGS = {"read-only": 1, "nosuid": 2, "nodev": 4, "noexec": 8}  # ST_*, statvfs(3)


@dataclass(frozen=True, slots=True)
class Identity:
    """The host's uid and gid that the jail runs as; neither is 0. One that nothing else on the host uses is best."""

    uid: int
    gid: int

    def __post_init__(self) -> None:
        if not (0 < self.uid < 2**32 - 1 and 0 < self.gid < 2**32 - 1):
            raise InvalidInput(
                f"a jail cannot run as uid {self.uid}, gid {self.gid}",
                hint="name an unprivileged user: both numbers above 0",
                data={"field": "identity"},
            )


def whoami() -> str:
    """The real, effective and saved ids of this process, in words."""
    return f"uids {os.getresuid()}, gids {os.getresgid()}"


def become(identity: Identity) -> Fact:
    """From root to ``identity``, without supplementary groups; for good.

    Raises:
        HostUnfit: the kernel refuses; in a user namespace, when these ids are not mapped in it.
    """
    with building(Layer.IDENTITY):
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        # A change of uid makes /proc/self root's; the uid map is written there. Taken away again by drop_all.
        capabilities.set_dumpable()
    return Fact(Layer.IDENTITY, f"{whoami()}, groups {os.getgroups()}")


def _inode(name: str) -> int:
    return os.stat(f"/proc/self/ns/{name}").st_ino


def enter_user_namespace() -> Fact:
    """A new user namespace in which this uid and gid, and no other, exist. The process must have one thread.

    Raises:
        HostUnfit: the host forbids it; the hint names the switch.
    """
    uid, gid = os.geteuid(), os.getegid()
    with building(Layer.USER_NAMESPACE):
        before = _inode("user")
        libc.unshare(_CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        return Fact(Layer.USER_NAMESPACE, f"{before} left for {_inode('user')}; only uid {uid} and gid {gid} exist")


def user_namespace_works(identity: Identity) -> bool:
    """Whether :func:`enter_user_namespace` works as ``identity``, tried in a child; for a caller that is root."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            become(identity)
            enter_user_namespace()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def leave_the_rest(*, without: frozenset[Layer] = frozenset()) -> tuple[Fact, ...]:
    """New mount, PID (for children), network, IPC, UTS and cgroup namespaces, but for those of ``without``.

    Raises:
        HostUnfit: naming the layer the host refuses.
    """
    facts = []
    for layer, (name, flag) in _NAMESPACES.items():
        if layer in without:
            continue
        with building(layer):
            before = _inode(name)
            libc.unshare(flag)
            if layer is not Layer.PID_NAMESPACE:  # that one begins with its first process, and reports itself
                facts.append(Fact(layer, f"{name} namespace {before} left for {_inode(name)}"))
    return tuple(facts)


def forbid_nesting() -> Fact:
    """No process of this user namespace may make another namespace of any kind; the limits belong to this one alone.

    Only to be called in a user namespace of one's own: elsewhere these are the switches of the whole host. Source:
    namespaces(7), "The /proc/sys/user directory".

    Raises:
        HostUnfit: ``/proc/sys`` is read-only, as in some containers.
    """
    with building(Layer.NESTING):
        switches = sorted(Path("/proc/sys/user").glob("max_*_namespaces"))
        for switch in switches:
            switch.write_text("0")
    return Fact(Layer.NESTING, ", ".join(f"{switch.name} {switch.read_text().strip()}" for switch in switches))


def cgroup_namespace_exists() -> bool:
    """Whether this kernel has cgroup namespaces at all."""
    return Path("/proc/self/ns/cgroup").exists()


def step_into(root: Path) -> os.stat_result:
    """Makes ``root`` the working directory, while the caller may still reach it, and returns what it is.

    Raises:
        InvalidInput: it is no directory, is the host's own root, or has something mounted below it.
    """
    try:
        os.chdir(root)
    except OSError as error:
        raise InvalidInput(f"the image's root {root} cannot be entered: {error}", data={"field": "root"}) from error
    here = Path.cwd()
    if here == Path("/"):
        raise InvalidInput("the jail's root is the host's root", hint="give an image", data={"field": "root"})
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted = Path(line.split()[4].encode().decode("unicode_escape"))
        if mounted != here and mounted.is_relative_to(here):
            raise InvalidInput(
                f"something is mounted at {mounted}, inside of the image's root",
                hint=f"umount {mounted}",
                data={"field": "root"},
            )
    return os.stat(".")


def check_readable(root: Path) -> None:
    """The working directory, stepped into as root, must be open to the user the jail now runs as.

    Raises:
        InvalidInput: it is not.
    """
    if not os.access(".", os.R_OK | os.X_OK, effective_ids=True):
        raise InvalidInput(
            f"uid {os.geteuid()} may not read the image's root {root}",
            hint=f"chmod o+rx {root}",
            data={"field": "root", "uid": os.geteuid()},
        )


def read_only_copy() -> int:
    """A descriptor of a new mount of the working directory, attached nowhere and read-only from its first moment.

    Raises:
        HostUnfit: the kernel refuses.
    """
    with building(Layer.ROOT):
        libc.mount_propagation("/", _MS_REC | _MS_PRIVATE)
        tree = libc.open_tree(_AT_FDCWD, ".", _OPEN_TREE_CLONE | os.O_CLOEXEC)
    with building(Layer.MOUNT_FLAGS):
        libc.mount_setattr(tree, _READ_ONLY_NOSUID_NODEV_NOEXEC, _AT_EMPTY_PATH)
    return tree


def pivot(tree: int) -> None:
    """Makes ``tree``, the copy of the working directory, the whole file system, and closes its descriptor.

    It is put on top of itself and becomes the root; ``pivot_root(".", ".")`` and ``umount2`` let go of the old one
    (pivot_root(2), NOTES).

    Raises:
        HostUnfit: the kernel refuses.
    """
    with building(Layer.ROOT):
        libc.move_mount(tree, _AT_FDCWD, ".", _MOVE_MOUNT_F_EMPTY_PATH)
        os.fchdir(tree)
        os.close(tree)
        libc.pivot_root(".", ".")
        libc.umount2(".", _MNT_DETACH)
        os.chdir("/")


def verify_root(expected: os.stat_result) -> tuple[Fact, ...]:
    """What can be seen of the new root; a finding that is missing from the answer does not hold."""
    facts = []
    seen = os.stat("/")
    above = os.stat("/..")
    if {(s.st_dev, s.st_ino) for s in (seen, above)} == {(expected.st_dev, expected.st_ino)}:
        facts.append(Fact(Layer.ROOT, f"/ and /.. are device {seen.st_dev}, inode {seen.st_ino}: the image"))
    flags = os.statvfs("/").f_flag
    if all(flags & bit for bit in _STATVFS_FLAGS.values()):
        facts.append(Fact(Layer.MOUNT_FLAGS, ", ".join(_STATVFS_FLAGS)))
    return tuple(facts)


def hide_host_name(name: str) -> None:
    """Gives this UTS namespace a host name of its own."""
    with building(Layer.UTS_NAMESPACE):
        libc.sethostname(name)
