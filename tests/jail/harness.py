"""Closing real jails from pytest: as root, and as the ordinary user that root can become."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
IDENTITY = 2_000_000_017  # of nobody on the host
ORDINARY = 1000
ROOT = os.geteuid() == 0
WHO = ("root", "ordinary") if ROOT else ("ordinary",)


@dataclass
class Stage:
    """An image, and what there is around it to get at."""

    image: Path
    secret: Path
    unix_path: Path
    abstract: str
    port: int
    sockets: list[socket.socket]


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Builds the image and the listeners in a directory that every user can read."""
    with tempfile.TemporaryDirectory(prefix="prong-jail-") as name, contextlib.ExitStack() as stack:
        top = Path(name)
        top.chmod(0o755)
        image = top / "image"
        (image / "open").mkdir(parents=True)
        (image / "open").chmod(0o777)
        for file in ("writable.txt", "open/doomed"):
            (image / file).touch()
            (image / file).chmod(0o666)
        (image / "hello.txt").write_text("of the image")
        (image / "open" / "link").symlink_to("../hello.txt")
        secret = top / "secret"
        secret.write_text("of the host")
        (image / "escape").symlink_to(secret)
        (image / "true").write_bytes(Path("/bin/true").read_bytes())
        (image / "true").chmod(0o755)
        if ROOT:
            os.mknod(image / "null", 0o020666, os.makedev(1, 3))
            (image / "null").chmod(0o666)
        # Python's own library, at its own path: what an import in the jail would find.
        library = Path(*Path(contextlib.__file__).parts[1:-1])
        (image / library).mkdir(parents=True)
        (image / library / "wave.py").write_text("raise AssertionError('code of the image ran in the VMM')\n")
        (image / "etc").mkdir()
        # tzfile(5), version 1: no transition, one type, nine hours east.
        zone = struct.pack(">4s16x6IiBB4s", b"TZif", 0, 0, 0, 0, 1, 4, 9 * 3600, 0, 0, b"JST")
        (image / "etc" / "localtime").write_bytes(zone)
        unix_path, abstract = top / "socket", f"prong-test-{os.getpid()}-{secrets.token_hex(4)}"
        inet = socket.create_server(("127.0.0.1", 0))
        named, unnamed = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        named.bind(str(unix_path))
        unnamed.bind("\0" + abstract)
        unix_path.chmod(0o777)
        for one in (inet, named, unnamed):
            stack.enter_context(one)
            one.listen(64)
        yield Stage(image, secret, unix_path, abstract, inet.getsockname()[1], [inet, named, unnamed])


@dataclass
class Run:
    """What came out of one jail."""

    answer: dict[str, Any]
    code: int

    @property
    def outcomes(self) -> dict[str, str]:
        """Name of an attack or a need to what became of it."""
        outcomes: dict[str, str] = self.answer["outcomes"]
        return outcomes

    @property
    def facts(self) -> dict[str, str]:
        """Layer to the last fact about it."""
        return {fact["layer"]: fact["detail"] for fact in self.answer["jail"]["facts"]}


@dataclass
class Order:
    """How to close the jail and what to try in it."""

    stage: Stage
    who: str
    mode: str
    names: Sequence[str] = ()
    rlimits: dict[str, int] = field(default_factory=dict)
    cgroup: dict[str, int] = field(default_factory=dict)
    allow: Sequence[str] = ()
    image: Path | None = None
    identity: int | None = None
    code: int = 0
    kvm: bool = False
    prefix: Sequence[str] = ()
    hold: bool = False


@dataclass
class Started:
    """A running driver: its process, the reading end of its report, our end of the socket it was given."""

    process: subprocess.Popen[bytes]
    report: int
    stream: socket.socket

    def send_a_pipe(self) -> None:
        """Puts one descriptor, the writing end of a pipe, on the socket."""
        reading, writing = os.pipe()
        socket.send_fds(self.stream, [b"x"], [writing])
        os.close(writing)
        os.close(reading)

    def finish(self) -> Run:
        """Waits for the answer and the end."""
        with open(self.report, "rb") as pipe:
            answer = pipe.read()
        self.stream.close()
        code = self.process.wait(60)
        assert answer, f"the driver said nothing; exit {code}"
        return Run(json.loads(answer), code)


def _as(who: str) -> list[str]:
    if who == "root" or not ROOT:
        return []
    readable = subprocess.run(
        ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", "test", "-r", str(DRIVER)],
        check=False,
    )
    if readable.returncode:
        pytest.skip(f"uid {ORDINARY} cannot read {DRIVER}, so an ordinary user cannot be tried here")
    return ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]


@functools.cache
def why_unfit(who: str) -> str:
    """Why this host cannot give ``who`` the jail; empty if it can."""
    with stage() as built:
        answer = _start(Order(built, who, "bare")).finish().answer
    error = answer.get("error")
    return f"{error['message']} ({error['hint']})" if error else ""


def start(order: Order) -> Started:
    """Starts the driver; skips the test, with the reason, on a host that cannot give this user a jail."""
    if order.mode != "outside" and why_unfit(order.who):
        pytest.skip(f"{order.who}: {why_unfit(order.who)}")
    return _start(order)


def _start(order: Order) -> Started:
    """Starts the driver; its descriptors are a report pipe, one end of a socket and, if ordered, /dev/kvm."""
    reading, report = os.pipe()
    ours, theirs = socket.socketpair()
    keep = [report, theirs.fileno()]
    kvm = os.open("/dev/kvm", os.O_RDWR) if order.kvm else -1
    if order.kvm:
        keep.append(kvm)
    root = ROOT and order.who == "root"
    identity = order.identity if order.identity is not None else IDENTITY if root and order.mode != "outside" else 0
    config = {
        "path": [str(REPOSITORY / "src"), str(REPOSITORY)],
        "mode": order.mode,
        "names": list(order.names),
        "image": str(order.image or order.stage.image),
        "secret": str(order.stage.secret),
        "unix_path": str(order.stage.unix_path),
        "abstract": order.stage.abstract,
        "port": order.stage.port,
        "stream": theirs.fileno(),
        "report": report,
        "kvm": kvm,
        "keep": keep,
        "identity": identity,
        "rlimits": order.rlimits,
        "cgroup": order.cgroup,
        "allow": list(order.allow),
        "code": order.code,
        "hold": order.hold,
    }
    command = [*_as(order.who), *order.prefix, sys.executable, "-I", str(DRIVER), json.dumps(config)]
    process = subprocess.Popen(command, pass_fds=keep, env={}, start_new_session=True)
    os.close(report)
    theirs.close()
    if order.kvm:
        os.close(kvm)
    return Started(process, reading, ours)


def run(order: Order) -> Run:
    """Starts the driver and waits for its answer."""
    return start(order).finish()
