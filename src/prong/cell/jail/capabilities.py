"""Giving up capabilities so that no way leads back to them (capabilities(7), prctl(2))."""

from __future__ import annotations

import errno

from prong.cell.jail import libc
from prong.cell.jail.layers import Fact, Layer

_PR_SET_DUMPABLE, _PR_GET_DUMPABLE = 4, 3
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
# NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE with their locks, and KEEP_CAPS locked off: uid 0 has no meaning left.
_SECUREBITS = 0b11_10_11_11


def _bounding_set() -> list[int]:
    """The capabilities this kernel knows that are in the bounding set."""
    held = []
    for capability in range(64):
        try:
            if libc.prctl(_PR_CAPBSET_READ, capability):
                held.append(capability)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: past the last one this kernel has
                raise
            break
    return held


def drop_bounding() -> None:
    """Empties the bounding and ambient sets and takes uid 0 its meaning. Needs ``CAP_SETPCAP`` in this user namespace.

    Raises:
        OSError: ``EPERM`` without it.
    """
    for capability in _bounding_set():
        libc.prctl(_PR_CAPBSET_DROP, capability)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc.prctl(_PR_SET_SECUREBITS, _SECUREBITS)


def drop_all() -> None:
    """Empties the effective, permitted and inheritable sets, forbids new privileges, and makes the process undumpable.

    Undumpable, it and its forks cannot be traced or have their memory read by another process of their user.
    """
    libc.capset_none()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(_PR_SET_DUMPABLE, 0)


def set_dumpable() -> None:
    """Gives ``/proc/self`` back to its user after a change of uid, which takes it away (proc(5))."""
    libc.prctl(_PR_SET_DUMPABLE, 1)


def verify() -> tuple[Fact, ...]:
    """What can be read back; a finding that is missing from the answer does not hold."""
    facts = []
    if libc.capget() == (0, 0, 0) and not _bounding_set():
        facts.append(Fact(Layer.CAPABILITIES, "effective, permitted, inheritable and bounding sets are empty"))
    if libc.prctl(_PR_GET_NO_NEW_PRIVS) == 1:
        facts.append(Fact(Layer.NO_NEW_PRIVS, "set"))
    if libc.prctl(_PR_GET_DUMPABLE) == 0:
        facts.append(Fact(Layer.DUMPABLE, "not dumpable"))
    return tuple(facts)
