"""A cell host that has been taken over, seen from the engine: whatever it sends, the engine gets an answer or SandboxGone.

Bounded in time and memory, and no other kind of exception. No KVM: the host is this test, at the other end of a socket.
"""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from prong.cell.engine import connection
from prong.cell.engine.cell import Cell
from prong.cell.engine.connection import Connection, socket_pair
from prong.cell.engine.descent import Descent
from prong.cell.host.spec import Identity
from prong.cell.host.wire import Channel, Closed, encode
from prong.errors import LimitExceeded, ProngError, SandboxGone

ROUNDS = int(os.environ.get("PRONG_FUZZ_ROUNDS", "400"))


class Host:
    """The far end: a thread that runs ``script(sock)``; the near end is a Cell."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        ours, self.sock = socket_pair()
        self.cell = Cell(ours, Descent("t", "sha256:0"), Identity.fresh(1))
        self.thread = threading.Thread(target=self._run, args=(script,))
        self.thread.start()

    def _run(self, script: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError, Closed):
            script(self.sock)

    def end(self) -> None:
        self.cell.close()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.sock.close()


@contextlib.contextmanager
def host(script: Callable[[socket.socket], None]) -> Iterator[Cell]:
    made = Host(script)
    try:
        yield made.cell
    finally:
        made.end()


def messages(*items: object) -> Callable[[socket.socket], None]:
    """Send these, whatever they are, and hang up."""

    def script(sock: socket.socket) -> None:
        for item in items:
            body = msgpack.packb(item)
            sock.sendall(struct.pack("<I", len(body)) + body)
        sock.shutdown(socket.SHUT_WR)

    return script


BAD_MESSAGES: list[object] = [
    [],
    {},
    "text",
    [1],
    ["nonsense"],
    ["out"],
    ["out", 1],
    ["out", "1", b"x"],
    ["out", {}, b"x"],
    ["out", 1, "text"],
    ["out", 1, 10**9],
    ["out", 3, b"\xff" * 8],
    ["out", 3, b"\0\0\0\2[]"],
    ["exit"],
    ["exit", None],
    ["exit", {}],
    ["exit", {"code": 1, "signal": None, "reason": "", "limit": "", "memory": float("inf")}],
    ["exit", {"code": float("inf"), "signal": None, "reason": "", "limit": ""}],
    ["limit", "x", "y"],
    ["limit"],
    ["refused", "no such kind", "x", "y"],
    ["refused", [], "x", "y"],
    ["ready"],
    ["broken", {}, [], 5],
    ["broken", "x" * 10**6, "y" * 10**6, {str(i): "z" * 1000 for i in range(1000)}],
    ["ok"],
    ["ok", 999, None],
    ["ok", {}, None],
    ["ok", [[]], None],
    ["fail", 1],
    ["fail", {}, 1, 2, 3],
    ["ok", 1, None],
]


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=lambda m: repr(m)[:40])
@pytest.mark.parametrize("call", ["wait_ready", "run", "stats", "files", "fork", "snapshot", "identity"])
def test_bad_messages(monkeypatch: pytest.MonkeyPatch, message: object, call: str) -> None:
    monkeypatch.setattr(Cell.wait_ready, "__defaults__", (0.5,))
    calls: dict[str, Callable[[Cell], Any]] = {
        "wait_ready": lambda c: c.wait_ready(5),
        "run": lambda c: c.run("1"),
        "stats": lambda c: c.stats(),
        "files": lambda c: c.files.read("/x"),
        "fork": lambda c: c.fork(2),
        "snapshot": lambda c: c.write_snapshot(1, 1),
        "identity": lambda c: c.learn_identity(),
    }
    with host(messages(message)) as cell:
        try:
            got = calls[call](cell)
        except ProngError:
            return
        assert call in ("wait_ready", "run")
        assert call != "run" or not got.ok or got.ended is not None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        10**15,
        "text",
        b"x" * 10,
        [],
        [1],
        {},
        {"a": "b"},
        [[b"n", [1, 2]]],
        [["n", [1, 2, 3]]],
        [[b"n", [1, 2, float("inf")]]],
        float("nan"),
    ],
    ids=repr,
)
def test_answers_of_the_wrong_kind(answer: object) -> None:
    def script(sock: socket.socket) -> None:
        channel = Channel(sock)
        while True:
            message = channel.receive()
            assert message is not None
            channel.send("ok", message[1], answer)

    calls: list[Callable[[Cell], object]] = [
        lambda c: c.stats(),
        lambda c: c.files.read("/x", 0, 100),
        lambda c: c.files.list("/x"),
        lambda c: c.files.stat("/x"),
        lambda c: c.write_snapshot(1, 1),
        lambda c: c.learn_identity(),
        lambda c: c.pause(),
    ]
    for call in calls:
        with host(script) as cell, contextlib.suppress(ProngError):
            call(cell)


@pytest.mark.parametrize("seed", range(4))
def test_garbage(seed: int) -> None:
    """Valid conversations with bytes changed, cut, repeated; and plain noise."""
    rng = random.Random(seed)
    parts = [encode(tuple(m)) for m in BAD_MESSAGES if isinstance(m, list) and m]
    parts += [encode(("out", 1, b"hello")), encode(("ready", 1)), encode(("ok", 1, {"a": 1}))]
    for _ in range(ROUNDS // 4):
        data = bytearray(b"".join(rng.choice(parts) for _ in range(rng.randrange(6))))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        data += rng.randbytes(rng.randrange(30))

        def script(sock: socket.socket, data: bytes = bytes(data)) -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        with host(script) as cell, contextlib.suppress(ProngError):
            match rng.randrange(3):
                case 0:
                    cell.wait_ready(5)
                case 1:
                    cell.run("1")
                case 2:
                    cell.stats()


def idle(stop: threading.Event) -> None:
    """Read nothing, say nothing."""
    stop.wait(30)


def flood(*message: object) -> Callable[[socket.socket], None]:
    """The same message without end."""

    def script(sock: socket.socket) -> None:
        data = encode(tuple(message)) * 8
        while True:
            sock.sendall(data)

    return script


@pytest.mark.parametrize(
    "message",
    [
        ("out", 1, b"x" * 60_000),
        ("out", 2, b"\xff" * 60_000),
        ("refused", "process", "c" * 1000, "d" * 60_000),
        ("limit", "wall", 1),
        ("out", 3, b"\0\0\0\x1e" + b'{"type":"pong","id":1}        '),
    ],
    ids=lambda m: f"{m[0]} {m[1]}",
)
@pytest.mark.parametrize("running", [True, False])
def test_floods_do_not_fill_memory(message: tuple[object, ...], running: bool) -> None:
    with host(flood(*message)) as cell:
        timer = threading.Timer(1.0, cell.close)
        timer.start()
        tracemalloc.start()
        with contextlib.suppress(ProngError):
            cell.run("1", output=1 << 20) if running else cell.stats()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        timer.join()
        assert peak < 64 << 20


def test_a_host_that_dribbles_cannot_stretch_a_timeout() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(struct.pack("<I", 1000))
        while True:
            sock.sendall(b"x")
            time.sleep(0.05)

    with host(script) as cell:
        started = time.monotonic()
        with pytest.raises(LimitExceeded):
            cell.wait_ready(0.5)
        assert time.monotonic() - started < 10


def test_a_host_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT", 0.5)
    stop = threading.Event()
    with host(lambda _: idle(stop)) as cell:
        with pytest.raises(SandboxGone) as caught:
            cell.files.write("/x", bytes(8 << 20))
        assert "read nothing" in caught.value.message
        stop.set()


def test_a_host_that_reads_nothing_and_sends_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT", 3.0)
    with host(flood("out", 1, b"x" * 60_000)) as cell, pytest.raises(SandboxGone):
        cell.files.write("/x", bytes(16 << 20))


def test_a_host_that_writes_before_it_reads() -> None:
    """Not hostile, only busy: both sides want to send much, and both succeed."""

    def script(sock: socket.socket) -> None:
        channel = Channel(sock)
        for _ in range(200):
            channel.send("out", 1, b"z" * 60_000)
        message = channel.receive()
        assert message is not None
        channel.send("ok", message[1], 5)
        channel.receive()

    with host(script) as cell:
        cell.files.write("/x", bytes(4 << 20))


def test_close_wakes_whoever_waits() -> None:
    """In any state: reading, and sending to a peer that does not read."""
    stop = threading.Event()
    for call in (lambda c: c.stats(), lambda c: c.files.write("/x", bytes(8 << 20))):
        with host(lambda _: idle(stop)) as cell:
            trouble: list[BaseException] = []

            def body(
                call: Callable[[Cell], object] = call, cell: Cell = cell, trouble: list[BaseException] = trouble
            ) -> None:
                try:
                    call(cell)
                except ProngError as e:
                    trouble.append(e)

            thread = threading.Thread(target=body)
            thread.start()
            time.sleep(0.2)
            cell.close()
            thread.join(10)
            assert not thread.is_alive()
            assert isinstance(trouble[0], SandboxGone)
            stop.set()


def test_descriptors_nobody_asked_for() -> None:
    """Hosts have no business sending any: they are not kept."""

    def script(sock: socket.socket) -> None:
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
        try:
            for _ in range(50):
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                sock.sendmsg([encode(("out", 1, b"x"))], rights)
        finally:
            for fd in fds:
                os.close(fd)
            sock.shutdown(socket.SHUT_WR)

    before = len(os.listdir("/proc/self/fd"))
    with host(script) as cell:
        with contextlib.suppress(ProngError):
            cell.stats()
        assert len(os.listdir("/proc/self/fd")) < before + 200
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_late_answer_does_not_cost_the_connection() -> None:
    def script(sock: socket.socket) -> None:
        channel = Channel(sock)
        first = channel.receive()
        assert first is not None
        time.sleep(0.4)
        channel.send("ok", first[1], "late")
        second = channel.receive()
        assert second is not None
        channel.send("ok", second[1], "second")
        channel.receive()

    ours, theirs = socket_pair()

    def quiet() -> None:
        with contextlib.suppress(Closed):
            script(theirs)

    thread = threading.Thread(target=quiet)
    thread.start()
    link = Connection(ours, lambda _: None)
    with pytest.raises(LimitExceeded):
        link.request("first", timeout=0.1)
    assert link.request("second", timeout=20) == "second"
    link.close()
    thread.join(20)
    theirs.close()
