"""The layers of the jail and the facts it reports about them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Layer(enum.StrEnum):
    """One obstacle that holds even when every other one has fallen."""

    IDENTITY = "identity"  # an unprivileged uid and gid
    USER_NAMESPACE = "user_namespace"  # capabilities, even if regained, reach nothing of the host
    PID_NAMESPACE = "pid_namespace"  # no process outside the jail has a number here
    NETWORK_NAMESPACE = "network_namespace"  # no interface, no abstract unix socket of the host
    IPC_NAMESPACE = "ipc_namespace"
    UTS_NAMESPACE = "uts_namespace"
    CGROUP_NAMESPACE = "cgroup_namespace"
    NESTING = "nesting"  # no further namespaces, which would give capabilities in themselves
    ROOT = "root"  # the mount namespace, pivoted onto the image
    MOUNT_FLAGS = "mount_flags"  # read-only, nosuid, nodev, noexec
    CAPABILITIES = "capabilities"  # none, and none to be had
    NO_NEW_PRIVS = "no_new_privs"
    DUMPABLE = "dumpable"  # no ptrace or /proc/PID/mem between equals
    DESCRIPTORS = "descriptors"
    IMPORTS = "imports"  # no Python code comes out of the image
    RLIMITS = "rlimits"
    CGROUP = "cgroup"
    DEATH = "death"  # dies with whoever started it
    SECCOMP = "seccomp"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was checked to hold after it was set up: the layer, and the finding in words."""

    layer: Layer
    detail: str
