"""The decoder outside, against everything a hostile runtime could send."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prong.cell.results import ErrorInfo, Execution, Result, TraceFrame
from prong.cell.runtime_fields import ProtocolViolation, clean, load_json, nesting
from prong.cell.runtime_messages import (
    Display,
    Failed,
    Finished,
    Forked,
    ForkFacts,
    MainResult,
    Ping,
    Pong,
    Run,
    Started,
)
from prong.cell.runtime_protocol import FrameDecoder, encode
from prong.errors import InvalidInput
from prong.guest import messages as m
from tests.guest.strict import RunCollector

ERROR = {"name": "E", "value": "v", "traceback": [], "formatted": "E: v\n"}
BUNDLE = {"data": {"text/plain": "t", "application/json": "[1]"}, "omitted": {}, "metadata": {"a/b": {"c": 1}}}
VALID: list[Mapping[str, object]] = [
    {"type": "ready", "protocol": 1, "python": "3.11.2", "packages": ["numpy"]},
    {"type": "warm_failed", "error": ERROR},
    {"type": "started", "id": 1, "nonce": "n", "execution_count": 1},
    {"type": "display", "id": None, "bundle": BUNDLE},
    {"type": "result", "id": 1, "nonce": "n", "bundle": BUNDLE},
    {"type": "error", "id": 1, "nonce": "n", "error": ERROR},
    {"type": "finished", "id": 1, "nonce": "n", "exit_code": 0, "execution_count": 1},
    {"type": "forked", "id": None, "ok": True},
    {"type": "forked", "id": 4, "ok": False, "error": ERROR},
    {"type": "contexts", "id": 1, "contexts": [{"name": "main", "execution_count": 0, "cwd": None}]},
    {"type": "completed", "id": 1, "matches": ["a"], "start": 0, "end": 1},
    {"type": "pong", "id": 1},
    {"type": "interrupt_ignored", "id": None, "last_id": 0},
    {"type": "refused", "id": 1, "code": "bad_request", "message": "why"},
]


def frame(value: object) -> bytes:
    """One frame around any JSON value."""
    body = json.dumps(value).encode()
    return len(body).to_bytes(4, "big") + body


def raw(body: bytes) -> bytes:
    """One frame around any bytes."""
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("value", VALID, ids=lambda value: str(value["type"]))
def test_valid_events_are_read(value: Mapping[str, object]) -> None:
    [event] = FrameDecoder().feed(frame(value))
    assert FrameDecoder().feed(frame({**value, "from_a_newer_runtime": [1]})) == [event]


NOT_READ = {("interrupt_ignored", "id")}
NULLABLE = {("display", "id"), ("forked", "id"), ("refused", "id")}
WRONG_FOR: dict[type, list[object]] = {
    str: [5, [], {}, True, None],
    int: ["5", -1, 1.5, True, 2**60, [], None],
    bool: ["true", 1, None],
    list: ["x", {}, 5, [[]], [5], None],
    dict: ["x", [], 5, {"data": 5}, {"name": 5}, None],
    type(None): ["x", -1, True],
}


@pytest.mark.parametrize("value", VALID, ids=lambda value: str(value["type"]))
def test_every_field_is_checked(value: Mapping[str, object]) -> None:
    """Each field in turn, missing, null, out of range or of another type, is a violation."""
    for name in value:
        key = (str(value["type"]), name)
        if key in NOT_READ:
            continue
        wrongs = [wrong for wrong in WRONG_FOR[type(value[name])] if wrong is not None or key not in NULLABLE]
        broken = [{**value, name: wrong} for wrong in wrongs]
        if key not in NULLABLE:
            broken.append({other: value[other] for other in value if other != name})
        for event in broken:
            with pytest.raises(ProtocolViolation):
                print(FrameDecoder().feed(frame(event)), "from", event)


def test_exit_code_is_a_status() -> None:
    with pytest.raises(ProtocolViolation):
        FrameDecoder().feed(frame({**VALID[6], "exit_code": 256}))


@pytest.mark.parametrize(
    "data",
    [
        (m.MAX_FRAME + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        raw(b""),
        raw(b"null"),
        raw(b"[]"),
        raw(b'"text"'),
        raw(b"{}"),
        raw(b'{"type": "pong", "id": 1'),
        raw(b'{"type": "pong", "id": 1} x'),
        raw(b'{"type": "pong", "id": NaN}'),
        raw(b'{"type": "pong", "id": Infinity}'),
        raw(b'{"type": "pong", "id": 1e999}'),
        raw(b'{"type": "pong", "id": ' + b"9" * 5000 + b"}"),
        raw(b'{"type": "pong", "id": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        raw(b'{"type": "pong", "id": 1, "x": ' + b'{"a":' * 13 + b"1" + b"}" * 13 + b"}"),
        raw(b'{"type": "pong", "id": "\xff\xfe"}'),
        raw(b"\xef\xbb\xbf{}"),
        raw(b'{"type": "run", "id": 1}'),
        raw(b'{"type": "pong\\u0000", "id": 1}'),
    ],
)
def test_violations(data: bytes) -> None:
    decoder = FrameDecoder()
    with pytest.raises(ProtocolViolation):
        decoder.feed(data)
    with pytest.raises(ProtocolViolation):
        decoder.feed(frame({"type": "pong", "id": 1}))


def test_large_frame_is_refused_before_it_arrives() -> None:
    decoder = FrameDecoder()
    decoder.feed(m.MAX_FRAME.to_bytes(4, "big") + b"x" * 10)
    assert decoder.in_frame
    with pytest.raises(ProtocolViolation) as caught:
        FrameDecoder().feed((m.MAX_FRAME + 1).to_bytes(4, "big"))
    assert caught.value.data == {"size": m.MAX_FRAME + 1}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        FrameDecoder().feed(data)
    except ProtocolViolation:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(VALID), st.data())
def test_any_value_in_any_field(value: Mapping[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    body = json.dumps({**value, name: data.draw(JSON)}).encode()
    try:
        events = FrameDecoder().feed(raw(body))
    except ProtocolViolation:
        return
    assert len(events) == 1
    for part in vars_of(events[0]):
        if isinstance(part, Result | ErrorInfo):
            json.dumps(part.to_json(), allow_nan=False).encode("utf-8")


def vars_of(event: object) -> list[object]:
    """The field values of a slotted dataclass."""
    return [getattr(event, name) for name in getattr(event, "__slots__", ())]


def test_mutated_streams() -> None:
    """Seeded: valid streams with bytes changed, dropped, doubled; whatever happens is an event or a violation."""
    rng = random.Random(7)
    stream = b"".join(frame(value) for value in VALID)
    violations = 0
    for _ in range(3000):
        data = bytearray(stream)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randrange(1, 9)]
            else:
                data[place:place] = data[place : place + rng.randrange(1, 9)]
        decoder = FrameDecoder()
        try:
            while data:
                size = rng.randrange(1, 400)
                decoder.feed(bytes(data[:size]))
                del data[:size]
        except ProtocolViolation:
            violations += 1
    assert violations > 1000


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), max_size=60))
def test_pieces_do_not_matter(sizes: list[int]) -> None:
    stream = b"".join(frame(value) for value in VALID)
    whole = FrameDecoder().feed(stream)
    decoder = FrameDecoder()
    events = []
    for size in sizes:
        events += decoder.feed(stream[:size])
        stream = stream[size:]
    events += decoder.feed(stream)
    assert events == whole and not decoder.in_frame


@settings(max_examples=300, deadline=None, derandomize=True)
@given(JSON)
def test_nesting_is_exact_for_json(value: object) -> None:
    def depth(item: object) -> int:
        inner = list(item) if isinstance(item, list) else list(item.values()) if isinstance(item, dict) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text = json.dumps(value).encode()
    assert nesting(text) == depth(value)


def test_strict_json() -> None:
    assert load_json(b'{"a": "[[[[{{{{\\"[["}', 1) == {"a": '[[[[{{{{"[['}
    for text in (b"NaN", b"1e400", b"[[1]]", b"\xff"):
        with pytest.raises(ValueError):
            load_json(text, 1)


def test_surrogates_are_replaced() -> None:
    assert clean("a\ud800b\U0001f600") == "a\ufffdb\U0001f600"
    bundle = {"data": {"text/plain": "\ud800", "application/json": '["\\udfff"]'}, "metadata": {"\ud800": "\udc00"}}
    [event] = FrameDecoder().feed(frame({"type": "display", "id": 1, "bundle": bundle}))
    assert isinstance(event, Display)
    json.dumps(event.result.to_json(), ensure_ascii=False).encode("utf-8")
    assert (event.result.text, event.result.json) == ("\ufffd", ["\ufffd"])


def test_forms_that_cannot_be_read_are_left_out() -> None:
    deep = "[" * 200 + "]" * 200
    data = {"application/json": "{", "application/vnd.prong.data+json": deep, "image/png": "%%%", "text/plain": "t"}
    [event] = FrameDecoder().feed(frame({"type": "display", "id": 1, "bundle": {"data": data}}))
    assert isinstance(event, Display) and event.result.text == "t"
    assert event.result.omitted.keys() == {"application/json", "application/vnd.prong.data+json", "image/png"}
    assert (event.result.json, event.result.data, event.result.png) == (None, None, None)


def run_request(fork: ForkFacts | None = None) -> Run:
    """A run numbered 5."""
    return Run(id=5, code="1", nonce="right", fork=fork)


def test_collector_builds_the_execution() -> None:
    seen: list[Result] = []
    collector = RunCollector(run_request(), on_result=seen.append)
    collector.output(1, b"out \xc3")
    collector.output(1, b"\xa9 \xff")
    collector.output(2, b"err")
    error = ErrorInfo("E", "v", (TraceFrame("f", 1, "g", "s"),), "E: v\n")
    assert not collector.message(Started(5, "right", 3))
    assert not collector.message(Display(5, Result(text="d")))
    assert not collector.message(Display(4, Result(text="of an earlier run")))
    assert not collector.message(Pong(9))
    assert not collector.message(MainResult(5, "right", Result(text="r", is_main=True)))
    assert not collector.message(Failed(5, "right", error))
    with pytest.raises(ValueError):
        collector.execution()
    assert collector.message(Finished(5, "right", 3, 8)) and collector.is_finished
    execution = collector.execution(duration=0.5)
    expected = Execution("out é \ufffd", "err", tuple(seen), error, 3, 8, 0.5)
    assert execution == expected and [result.text for result in seen] == ["d", "r"]
    assert execution.text == "r" and not execution.ok and execution.with_duration(1.0).duration == 1.0
    json.dumps(execution.to_json())
    assert execution._repr_mimebundle_() == {"text/plain": "r"}


@pytest.mark.parametrize(
    "message",
    [
        Finished(5, "wrong", 0, 1),
        Finished(4, "right", 0, 1),
        Finished(6, "right", 0, 1),
        MainResult(5, "", Result()),
        Failed(5, "é", ErrorInfo("E", "v", (), "")),
    ],
)
def test_collector_refuses_forged_frames(message: Finished | MainResult | Failed) -> None:
    with pytest.raises(ProtocolViolation):
        RunCollector(run_request()).message(message)


def test_collector_refuses_frames_after_the_end() -> None:
    collector = RunCollector(run_request())
    collector.message(Finished(5, "right", 0, 1))
    with pytest.raises(ProtocolViolation):
        collector.message(Finished(5, "right", 0, 1))


def test_collector_branches_for_a_live_fork() -> None:
    parent = RunCollector(run_request())
    parent.output(1, b"before ")
    parent.message(Display(5, Result(text="shared")))
    child = parent.branch()
    parent.output(1, b"parent")
    child.output(1, b"child")
    child.message(Display(5, Result(text="own")))
    for collector in (parent, child):
        assert collector.message(Finished(5, "right", 0, 1))
    assert (parent.execution().stdout, child.execution().stdout) == ("before parent", "before child")
    assert [[r.text for r in c.execution().results] for c in (parent, child)] == [["shared"], ["shared", "own"]]


def test_collector_wants_the_fork_contract_first() -> None:
    for answer in (None, Forked(5, ErrorInfo("E", "v", (), "")), Forked(None, None)):
        collector = RunCollector(run_request(fork=ForkFacts(b"s" * 32)))
        if answer is not None:
            collector.message(answer)
        with pytest.raises(ProtocolViolation):
            collector.message(Finished(5, "right", 0, 1))
    collector = RunCollector(run_request(fork=ForkFacts(b"s" * 32)))
    assert not collector.message(Forked(5, None))
    assert collector.message(Finished(5, "right", 0, 1))


def test_execution_of_a_dead_process() -> None:
    collector = RunCollector(run_request())
    collector.output(1, b"last words")
    execution = collector.execution(exit_code=137)
    assert (execution.stdout, execution.exit_code, execution.results) == ("last words", 137, ())


def test_encode() -> None:
    data = encode(Run(id=1, code="x = '\ud800é'", nonce="n"))
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert json.loads(data[4:]) == {"type": "run", "id": 1, "nonce": "n", "mode": "cell", "code": "x = '\ud800é'"}
    assert len({Run(id=1, code="").nonce for _ in range(50)}) == 50
    assert encode(Ping(id=3))[4:] == b'{"type":"ping","id":3}'
    with pytest.raises(InvalidInput):
        encode(Run(id=1, code="x" * m.MAX_FRAME))
    with pytest.raises(InvalidInput):
        Run(id=1, code="1", mode="nonsense")
    with pytest.raises(InvalidInput):
        Run(id=1, code=None)
