"""Why this host refuses a layer, and what its owner can do about it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from prong.cell.jail.layers import Layer
from prong.errors import HostUnfit

_SYSCTL = Path("/proc/sys")

# (file below /proc/sys, value that forbids, what to do)
_SWITCHES = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps ordinary users from user namespaces:"
        " `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`,"
        " or give prong's interpreter an AppArmor profile with `userns,`",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "ordinary users may not make user namespaces: `sudo sysctl -w kernel.unprivileged_userns_clone=1`",
    ),
    ("user/max_user_namespaces", "0", "user namespaces are off: `sudo sysctl -w user.max_user_namespaces=15000`"),
    ("user/max_pid_namespaces", "0", "PID namespaces are off: `sudo sysctl -w user.max_pid_namespaces=15000`"),
    ("user/max_net_namespaces", "0", "network namespaces are off: `sudo sysctl -w user.max_net_namespaces=15000`"),
    ("user/max_mnt_namespaces", "0", "mount namespaces are off: `sudo sysctl -w user.max_mnt_namespaces=15000`"),
)

_BY_ERRNO = {
    errno.EPERM: "if this is a container, its seccomp profile or missing privileges forbid it; run prong on the host,"
    " or let the container make namespaces (for Docker: `--security-opt seccomp=unconfined --security-opt"
    " apparmor=unconfined --security-opt systempaths=unconfined`)",
    errno.ENOSYS: "this kernel is too old (Linux 5.14 or newer is needed), or a container's seccomp profile hides the call",
    errno.ENOSPC: "the limit on namespaces of this kind, or on their nesting, is reached:"
    " see /proc/sys/user/max_*_namespaces",
    errno.EINVAL: "this kernel lacks the feature, or the process has more than one thread",
}

_NAMESPACE_LAYERS = frozenset(
    {
        Layer.USER_NAMESPACE,
        Layer.PID_NAMESPACE,
        Layer.NETWORK_NAMESPACE,
        Layer.IPC_NAMESPACE,
        Layer.UTS_NAMESPACE,
        Layer.CGROUP_NAMESPACE,
        Layer.NESTING,
        Layer.ROOT,
        Layer.MOUNT_FLAGS,
        Layer.CAPABILITIES,
    }
)


def forbidding_switches(sysctl: Path = _SYSCTL) -> list[str]:
    """What to do about every kernel switch that is set against namespaces on this host."""
    found = []
    for name, forbids, advice in _SWITCHES:
        path = sysctl / name
        if path.exists() and path.read_text().strip() == forbids:
            found.append(advice)
    return found


def unfit(layer: Layer, error: OSError, *, sysctl: Path = _SYSCTL) -> HostUnfit:
    """The typed error for a host that refused ``layer``, with a hint that fits the host."""
    hints = forbidding_switches(sysctl) if layer in _NAMESPACE_LAYERS else []
    if not hints and error.errno in _BY_ERRNO:
        hints = [_BY_ERRNO[error.errno]]
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return HostUnfit(
        f"the jail's layer {layer.value} cannot be had on this host: {error}",
        hint="; ".join(hints),
        code="jail_unfit",
        data={"layer": layer.value, "errno": name},
    )


@contextlib.contextmanager
def building(layer: Layer) -> Iterator[None]:
    """Turns an :class:`OSError` of the body into :class:`~prong.errors.HostUnfit` for ``layer``."""
    try:
        yield
    except OSError as error:
        raise unfit(layer, error) from error
