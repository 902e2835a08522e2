"""Frames of the control protocol: any bytes in any pieces give the same messages or a violation, at a bounded cost."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
import tracemalloc

import pytest

from prong.cell.host import wire
from prong.cell.host.wire import Channel, Closed, Decoder, ProtocolViolation, encode

ROUNDS = int(os.environ.get("PRONG_FUZZ_ROUNDS", "400"))


@pytest.mark.parametrize("seed", range(4))
def test_decoder_takes_any_bytes_in_any_pieces(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        data = rng.randbytes(rng.randrange(200))
        if rng.random() < 0.7:
            data = struct.pack("<I", rng.randrange(40)) + data
        outcomes = []
        for step in (1, 7, 1000):
            decoder, got = Decoder(), []
            try:
                for at in range(0, len(data), step):
                    got += decoder.feed(data[at : at + step])
            except ProtocolViolation:
                got.append(("violation",))
            outcomes.append(repr(got))
        assert len(set(outcomes)) == 1 or "violation" in outcomes[0]


def test_decoder_bombs_are_small() -> None:
    """A few bytes of msgpack that claim to be large, or deep, cost nothing."""
    for body in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xc9\xff\xff\xff\xff\x01",
    ):
        tracemalloc.start()
        with pytest.raises(ProtocolViolation):
            Decoder().feed(struct.pack("<I", len(body)) + body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 32 << 20


def test_oversized_frames_are_refused_before_they_are_stored() -> None:
    with pytest.raises(ProtocolViolation):
        Decoder().feed(struct.pack("<I", wire.MAX_FRAME + 1))
    with pytest.raises(ProtocolViolation):
        encode(("x", bytes(wire.MAX_FRAME)))


def test_text_that_is_not_unicode_is_escaped() -> None:
    """Names in refusals and crash reports are the program's choice; they must not end its host."""
    (message,) = Decoder().feed(encode(("refused", os.fsdecode(b"/tmp/\xff"))))
    assert message == ("refused", "/tmp/\\udcff")


def test_waiting_for_a_very_long_time_is_possible() -> None:
    """Programs sleep for longer than poll(2) can say; the host waits with them."""
    near, far = socket.socketpair()
    channel = Channel(near)
    far.sendall(encode(("hello",)))
    assert channel.receive(1e13) == ("hello",)
    far.close()
    with pytest.raises(Closed):
        channel.receive(1e13)
    channel.close()
    with pytest.raises(Closed):
        channel.wait(0)


def test_a_timeout_holds_though_bytes_keep_coming() -> None:
    near, far = socket.socketpair()
    channel = Channel(near)
    far.sendall(b"\xff\0\0\0")
    started = time.monotonic()
    assert channel.receive(0.05) is None
    assert channel.receive(0) is None
    assert time.monotonic() - started < 10
    channel.close()
    far.close()
