from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from prong.cell.jail import rlimits
from prong.cell.jail.hostfit import building, forbidding_switches, unfit
from prong.cell.jail.init import Exit, reap
from prong.cell.jail.layers import Layer
from prong.cell.jail.rlimits import Rlimits
from prong.errors import HostUnfit


def sysctl(tmp_path: Path, **values: str) -> Path:
    """A /proc/sys with these switches, ``__`` for the slash."""
    for name, value in values.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(value + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("switch", "value", "advice"),
    [
        (
            "kernel__apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("kernel__unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user__max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_the_switch_that_forbids_is_named(tmp_path: Path, switch: str, value: str, advice: str) -> None:
    host = sysctl(tmp_path, **{switch: value})
    error = unfit(Layer.USER_NAMESPACE, PermissionError(errno.EPERM, "Operation not permitted"), sysctl=host)
    assert advice in error.hint
    assert error.data == {"layer": "user_namespace", "errno": "EPERM"}
    # AppArmor lets the namespace be made, and refuses what it was made for: the hint comes there, too.
    assert advice in unfit(Layer.ROOT, PermissionError(errno.EACCES, "Permission denied"), sysctl=host).hint


def test_an_open_host_has_no_such_switch(tmp_path: Path) -> None:
    host = sysctl(tmp_path, kernel__unprivileged_userns_clone="1", user__max_user_namespaces="15000")
    assert forbidding_switches(host) == []
    assert "container" in unfit(Layer.ROOT, PermissionError(errno.EPERM, "no"), sysctl=host).hint
    assert unfit(Layer.RLIMITS, OSError(errno.EIO, "odd"), sysctl=host).hint == ""


def test_only_what_the_host_refuses_is_translated() -> None:
    with pytest.raises(HostUnfit) as caught, building(Layer.SECCOMP):
        raise OSError(errno.ENOSYS, "Function not implemented")
    assert caught.value.data == {"layer": "seccomp", "errno": "ENOSYS"}
    with pytest.raises(ZeroDivisionError), building(Layer.SECCOMP):
        raise ZeroDivisionError


def test_limits_are_lowered_and_never_raised() -> None:
    assert rlimits.lowered(10, resource.RLIM_INFINITY) == 10
    assert rlimits.lowered(10, 20) == 10
    assert rlimits.lowered(30, 20) == 20
    assert resource.RLIMIT_CPU not in Rlimits().wanted()
    assert Rlimits(cpu_seconds=3).wanted()[resource.RLIMIT_CPU] == 3
    assert Rlimits().wanted()[resource.RLIMIT_CORE] == 0


def reaped(*mine: int) -> list[Exit]:
    """What :func:`reap` finds of these; pytest may have other children."""
    return [one for one in reap() if one.pid in mine]


def test_reaping_takes_all_that_ended_and_waits_for_none() -> None:
    reading, writing = os.pipe()
    running = os.fork()
    if running == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(5)
    killed = os.fork()
    if killed == 0:
        os.kill(os.getpid(), 31)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    ended = reaped(running, killed)
    assert ended == [Exit(killed, None, 31)]
    assert ended[0].by_filter
    os.close(writing)
    os.waitid(os.P_PID, running, os.WEXITED | os.WNOWAIT)
    ended = reaped(running, killed)
    os.close(reading)
    assert ended == [Exit(running, 5, None)]
    assert not ended[0].by_filter
    assert reaped(running, killed) == []
