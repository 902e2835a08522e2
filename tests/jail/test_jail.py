"""Closing the jail: what it reports, what it refuses, what it does without when told so, and how it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.cell.jail import Identity, JailSpec, enter, probe, vmm_policy
from prong.cell.jail.layers import Layer
from prong.errors import InvalidInput
from tests.jail.harness import IDENTITY, ORDINARY, ROOT, WHO, Order, Stage, Started, run, stage, start

root_only = pytest.mark.skipif(not ROOT, reason="only root can set this up")
NESTED = Path(__file__).with_name("nested.py")


@pytest.fixture(scope="module")
def set_up() -> Iterator[Stage]:
    with stage() as built:
        yield built


@pytest.mark.parametrize("who", WHO)
def test_the_report_has_a_fact_for_every_layer(set_up: Stage, who: str) -> None:
    done = run(Order(set_up, who, "bare"))
    assert done.facts.keys() == set(Layer) - {Layer.CGROUP, Layer.SECCOMP}
    uid = IDENTITY if who == "root" else ORDINARY if ROOT else os.getuid()
    assert f"uids ({uid}, {uid}, {uid})" in done.facts["identity"]
    assert "max_user_namespaces 0" in done.facts["nesting"]
    assert done.facts["mount_flags"] == "read-only, nosuid, nodev, noexec"
    assert str(set_up.image.stat().st_ino) in done.facts["root"]
    assert "nproc 4096" in done.facts["rlimits"]
    assert done.answer["jail"]["missing"] == []
    assert all(took >= 0 for took in done.answer["jail"]["milliseconds"].values())


def test_probe_tries_the_jail_and_leaves_nothing() -> None:
    before = Path("/proc/self/ns/user").readlink(), Path.cwd(), os.getpid(), set(os.listdir("/tmp"))
    report = probe(Identity(IDENTITY, IDENTITY) if ROOT else None)
    assert isinstance(report["facts"], list)
    assert report["missing"] == []
    after = Path("/proc/self/ns/user").readlink(), Path.cwd(), os.getpid(), before[3]
    assert before == after
    assert not [name for name in set(os.listdir("/tmp")) - before[3] if name.startswith("prong-probe-")]


@root_only
def test_probe_gives_the_error_the_jail_gave() -> None:
    with pytest.raises(Exception, match="needs an unprivileged identity") as caught:
        probe(None)
    assert getattr(caught.value, "code", None) == "invalid_input"


@pytest.mark.parametrize(("uid", "gid"), [(0, 5), (5, 0), (-1, 5), (2**32 - 1, 5)])
def test_no_identity_of_root(uid: int, gid: int) -> None:
    with pytest.raises(InvalidInput, match="cannot run as"):
        Identity(uid, gid)


def refused(set_up: Stage, image: Path | None = None, who: str = "root", identity: int | None = None) -> str:
    """The message of the InvalidInput that closing the jail ends in."""
    done = run(Order(set_up, who, "bare", image=image, identity=identity))
    assert done.answer["type"] == "InvalidInput"
    assert done.code == 3
    return str(done.answer["error"]["message"])


def test_a_root_that_is_no_image_is_refused(set_up: Stage, tmp_path: Path) -> None:
    assert "is the host's root" in refused(set_up, Path("/"))
    assert "is the host's root" in refused(set_up, set_up.image / "../../..")
    assert "cannot be entered" in refused(set_up, set_up.image / "missing")
    assert "cannot be entered" in refused(set_up, set_up.image / "hello.txt")


@root_only
def test_a_root_closed_to_the_jails_user_is_refused(set_up: Stage, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert "may not read the image's root" in refused(set_up, tmp_path)


@root_only
def test_an_image_below_a_closed_directory_is_fine(set_up: Stage, tmp_path: Path) -> None:
    """Root steps into it before it becomes anybody else; an image store may be root's alone."""
    image = tmp_path / "store" / "image"
    image.mkdir(parents=True)
    image.chmod(0o755)
    (tmp_path / "store").chmod(0o700)
    (image / "open").mkdir()
    (image / "open/doomed").write_text("")
    done = run(Order(set_up, "root", "sealed", ["open_host_file", "unlink_image"], image=image))
    assert done.outcomes == {"open_host_file": "ENOENT", "unlink_image": "EPERM"}


@root_only
def test_something_mounted_in_the_image_is_refused(set_up: Stage) -> None:
    """A mount below it would not come along, or would be a way out."""
    script = f"mount -t tmpfs none {set_up.image}/open && exec {sys.executable} -I -c '{{}}'"
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from pathlib import Path
from prong.cell.jail import *
from prong.errors import InvalidInput
try:
    root = Path({str(set_up.image)!r})
    enter(JailSpec(root=root, policy=vmm_policy(()), keep_fds=frozenset(), identity=Identity(5, 5)))
except InvalidInput as error:
    print(error.message)
"""
    command = ["unshare", "--mount", "sh", "-c", script.replace("'{}'", '"$0"'), code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == f"something is mounted at {set_up.image}/open, inside of the image's root"


@root_only
def test_root_must_name_an_identity(set_up: Stage) -> None:
    assert "needs an unprivileged identity" in refused(set_up, identity=0)


def test_an_ordinary_user_keeps_his_own(set_up: Stage) -> None:
    assert "cannot become" in refused(set_up, who="ordinary", identity=4321)


@pytest.mark.parametrize(
    ("path", "flags", "why"),
    [("/", os.O_RDONLY, "is a directory"), ("/", os.O_PATH, "is a directory"), ("/etc/passwd", os.O_PATH, "O_PATH")],
)
def test_descriptors_that_lead_out_are_refused(path: str, flags: int, why: str, tmp_path: Path) -> None:
    fd = os.open(path, flags)
    try:
        spec = JailSpec(
            root=tmp_path,
            policy=vmm_policy(()),
            keep_fds=frozenset({fd}),
            identity=Identity(IDENTITY, IDENTITY) if ROOT else None,
        )
        with pytest.raises(InvalidInput, match=why) as caught:
            enter(spec)
        assert caught.value.data == {"field": "keep_fds", "fd": fd}
    finally:
        os.close(fd)


def test_a_descriptor_that_is_not_open_is_refused(tmp_path: Path) -> None:
    identity = Identity(IDENTITY, IDENTITY) if ROOT else None
    with pytest.raises(InvalidInput, match="is not open"):
        enter(JailSpec(root=tmp_path, policy=vmm_policy(()), keep_fds=frozenset({987}), identity=identity))


@root_only
def test_a_host_without_user_namespaces_is_unfit_unless_that_was_allowed(set_up: Stage) -> None:
    nested = [sys.executable, "-I", str(NESTED)]
    order = Order(set_up, "root", "sealed", prefix=nested, identity=ORDINARY)
    error = run(order).answer["error"]
    assert (error["code"], error["data"]) == ("jail_unfit", {"layer": "user_namespace", "errno": "ENOSPC"})
    assert "user.max_user_namespaces" in error["hint"]

    order.allow = ["no_user_namespace"]
    order.names = ["open_host_file", "mount_tmpfs", "setuid_root", "kill_sibling", "unshare_user", "fork_live"]
    done = run(order)
    assert done.answer["jail"]["missing"] == ["no_nesting_limit", "no_user_namespace"]
    assert "user_namespace" not in done.facts
    assert done.outcomes == {
        "open_host_file": "ENOENT",
        "mount_tmpfs": "SIGSYS",
        "setuid_root": "SIGSYS",
        "kill_sibling": "SIGSYS",
        "unshare_user": "SIGSYS",
        "fork_live": "done",
    }
    order.mode = "bare"
    order.names = ["open_host_file", "mount_tmpfs", "setuid_root", "all_capabilities", "ptrace_sibling", "chroot"]
    assert set(run(order).outcomes.values()) == {"ENOENT", "EPERM"}


@root_only
def test_a_degradation_is_not_taken_where_the_layer_can_be_had(set_up: Stage) -> None:
    everything = ["no_user_namespace", "no_cgroup_namespace", "no_cgroup", "no_nesting_limit"]
    done = run(Order(set_up, "root", "bare", allow=everything))
    assert done.answer["jail"]["missing"] == []
    assert done.facts.keys() >= {"user_namespace", "cgroup_namespace", "nesting"}


# --- death ---


def gone(started: Started) -> bool:
    """Whether every process that holds the other end of the socket has ended: the whole jail."""
    started.stream.settimeout(30)
    return started.stream.recv(1) == b""


def first_line(started: Started) -> bytes:
    """What the spawner says when the jail is closed; it then holds."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(started.report, 4096)
    return line


def child_of(pid: int) -> int:
    """The one child of a process, by the host's number."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture
def holding(set_up: Stage) -> Iterator[Started]:
    started = start(Order(set_up, "ordinary", "bare", hold=True))
    assert b'"pid": 1' in first_line(started)
    yield started
    started.process.kill()
    started.process.wait(60)
    started.stream.close()
    os.close(started.report)


def test_the_jail_dies_with_its_guardian(holding: Started) -> None:
    holding.process.kill()
    assert gone(holding)


def test_the_guardian_dies_as_the_spawner_did(holding: Started) -> None:
    os.kill(child_of(holding.process.pid), signal.SIGKILL)
    assert holding.process.wait(60) == 128 + signal.SIGKILL
    assert gone(holding)


def test_the_guardian_holds_nothing(holding: Started) -> None:
    """No descriptor but the lifeline, no capability, and the jail's root."""
    if not ROOT:
        pytest.skip("the guardian cannot be looked into, not even by its own user")
    process = Path(f"/proc/{holding.process.pid}")
    deadline = time.monotonic() + 30
    while len(list((process / "fd").iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [os.readlink(fd).split(":")[0] for fd in (process / "fd").iterdir()] == ["pipe"]
    while "CapBnd:\t0000000000000000" not in (process / "status").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    status = (process / "status").read_text()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status
    assert (process / "root" / "hello.txt").read_text() == "of the image"


def test_the_jail_dies_with_its_starter(set_up: Stage) -> None:
    """A daemon killed by SIGKILL leaves no cell behind."""
    starter = [sys.executable, "-I", "-c", "import subprocess, sys; subprocess.call(sys.argv[1:], close_fds=False)"]
    started = start(Order(set_up, "ordinary", "bare", hold=True, prefix=starter))
    assert b'"pid": 1' in first_line(started)
    started.process.kill()
    assert gone(started)
    started.process.wait(60)
    started.stream.close()
    os.close(started.report)


@pytest.mark.parametrize("who", WHO)
def test_the_exit_code_of_the_spawner_is_passed_on(set_up: Stage, who: str) -> None:
    assert run(Order(set_up, who, "bare", code=41)).code == 41
