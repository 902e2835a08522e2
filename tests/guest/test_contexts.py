"""Contexts, completion, ping, and requests the runtime refuses."""

from __future__ import annotations

import json

import pytest

from prong.cell.runtime_messages import (
    Complete,
    Completed,
    ContextInfo,
    ContextList,
    Contexts,
    Ping,
    Pong,
    Refused,
)
from tests.guest.harness import GuestProcess


def contexts(process: GuestProcess, op: str = "list", name: str | None = None, cwd: str | None = None) -> object:
    """Send a contexts request; the answer."""
    process.send(Contexts(id=process.next_id(), op=op, name=name, cwd=cwd))
    return process.wait_message()


def test_life_of_a_context(fresh: GuestProcess) -> None:
    fresh.run("x = 'main'")
    made = contexts(fresh, "create", "other")
    assert isinstance(made, ContextList)
    assert made.contexts == (ContextInfo("main", 1, None), ContextInfo("other", 0, None))
    assert fresh.run("x = 'other'\nx", context="other").execution_count == 1
    assert fresh.run("x").text == "'main'"
    error = fresh.run("1 / 0", context="other").error
    assert error is not None and error.traceback[0].file == "<cell 2 of other>" and error.traceback[0].source == "1 / 0"
    contexts(fresh, "reset", "other")
    assert fresh.run("'x' in globals()", context="other").text == "False"
    assert isinstance(contexts(fresh, "remove", "other"), ContextList)
    answer = contexts(fresh, "remove", "other")
    assert isinstance(answer, Refused) and answer.code == "unknown_context"
    answer = contexts(fresh, "create", "main")
    assert isinstance(answer, Refused) and answer.code == "context_exists"
    removed_main = contexts(fresh, "remove", "main")
    assert removed_main == ContextList(removed_main.id, (ContextInfo("main", 0, None),))  # type: ignore[attr-defined]
    assert fresh.run("'x' in globals()").text == "False"


def test_context_keeps_its_directory(fresh: GuestProcess) -> None:
    contexts(fresh, "create", "placed", "/usr")
    assert fresh.run("import os\nbefore = os.getcwd()\nos.chdir('lib')\nbefore", context="placed").text == "'/usr'"
    assert fresh.run("import os\nos.getcwd()", context="placed").text == "'/usr/lib'"
    assert fresh.run("import os\nos.getcwd()").text != "'/usr/lib'"


def test_loops_are_per_context(fresh: GuestProcess) -> None:
    contexts(fresh, "create", "b")
    code = "import asyncio\nid(asyncio.get_running_loop()), await asyncio.sleep(0)"
    assert fresh.run(code).text != fresh.run(code, context="b").text
    assert fresh.run(code).text == fresh.run(code).text


@pytest.mark.parametrize(
    ("code", "some", "start"),
    [
        ("pri", {"print"}, 0),
        ("x = imp", {"import"}, 4),
        ("own_na", {"own_name"}, 0),
        ("own_name.up", {"upper"}, 9),
        ("own_name.upper.__na", {"__name__"}, 15),
        ("own_name.", {"upper", "lower"}, 9),
        ("f(own_na", {"own_name"}, 2),
    ],
)
def test_completion(runtime: GuestProcess, code: str, some: set[str], start: int) -> None:
    runtime.run("own_name = 'text'")
    runtime.send(Complete(id=runtime.next_id(), code=code, cursor=len(code)))
    answer = runtime.wait_message()
    assert isinstance(answer, Completed) and some <= set(answer.matches)
    assert (answer.start, answer.end) == (start, len(code))


@pytest.mark.parametrize("code", ["unknown.", "print().x", "bad.", "", "1 + "])
def test_nothing_to_complete(runtime: GuestProcess, code: str) -> None:
    runtime.run("class Bad:\n    def __dir__(self): raise LookupError\nbad = Bad()")
    runtime.send(Complete(id=runtime.next_id(), code=code, cursor=len(code)))
    answer = runtime.wait_message()
    assert isinstance(answer, Completed)
    assert answer.matches == () or code in ("", "1 + ")


def test_ping(runtime: GuestProcess) -> None:
    runtime.send(Ping(id=77))
    assert runtime.wait_message() == Pong(77)


@pytest.mark.parametrize(
    "request_fields",
    [
        {"type": "nonsense", "id": 1},
        {"type": "run", "id": "one"},
        {"type": "run", "id": 1, "nonce": "n", "mode": "cell"},
        {"type": "run", "id": 1, "nonce": "n", "mode": "other", "code": ""},
        {"type": "run", "id": 1, "nonce": "n", "mode": "file", "code": "1"},
        {"type": "run", "id": 1, "nonce": "n", "mode": "cell", "code": 1},
        {"type": "contexts", "id": 1, "op": "explode", "name": "x"},
        {"type": "contexts", "id": 1, "op": "create", "name": ""},
        {"type": "contexts", "id": 1, "op": "create", "name": "n" * 201},
        {"type": ["run"], "id": 1},
        {},
    ],
)
def test_bad_requests_are_refused(runtime: GuestProcess, request_fields: dict[str, object]) -> None:
    body = json.dumps(request_fields).encode()
    runtime.sock.sendall(len(body).to_bytes(4, "big") + body)
    answer = runtime.wait_message()
    assert isinstance(answer, Refused) and answer.code == "bad_request" and answer.message


def test_requests_in_pieces_and_in_one(runtime: GuestProcess) -> None:
    from prong.cell.runtime_protocol import encode

    stream = b"".join(encode(Ping(id=number)) for number in range(100, 110))
    for byte in stream:
        runtime.sock.sendall(bytes([byte]))
    runtime.sock.sendall(stream)
    answers = [runtime.wait_message() for _ in range(20)]
    assert answers == [Pong(number) for number in range(100, 110)] * 2
