"""The fork contract, inside the interpreter: after a fork nothing that should be unique is shared with a sibling.

Reseeded: the ``random`` module's generator, numpy's legacy global one, OpenSSL (if loaded). Reset: uuid's node and
clock sequence, tempfile's names, multiprocessing's authentication key. ``os.urandom``, ``secrets``, ``uuid4`` and
``random.SystemRandom`` ask the kernel, which is reseeded already. Not touched, because they are the program's own or
cannot be changed: ``random.Random`` and ``numpy.random.default_rng`` objects, the hash secret. For those a program
registers a callback with ``prong.on_fork``.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from .interrupts import shield
from .messages import GENERATION_FILE, MIN_SEED

Callback = Callable[[], object]


class ForkState:
    """What the sandbox is a fork of, and who wants to know when it becomes one.

    Attributes:
        generation: the last known generation id; empty before any fork.
        info: facts about the sandbox the host chose to share.
    """

    def __init__(self) -> None:
        self.generation = ""
        self.info: dict[str, Any] = {}
        self._callbacks: list[Callback] = []

    def subscribe(self, callback: Callback) -> Callback:
        """Call it after every fork, in order of registration; returns it, so this is also a decorator."""
        if not callable(callback):
            raise TypeError("prong.on_fork needs a callable")
        self._callbacks.append(callback)
        return callback

    def current_generation(self) -> str:
        """The kernel layer's generation file where there is one, else what the last fork request said."""
        try:
            with open(GENERATION_FILE, encoding="utf-8") as file:
                return file.read().strip()
        except FileNotFoundError:
            return self.generation

    def become(self, request: Mapping[str, Any]) -> BaseException | None:
        """Carry out a fork request: reseed, then call back. Returns what went wrong; the fork is then void."""
        _, failure = shield(lambda: self._become(request))
        return failure

    def become_live(self) -> BaseException | None:
        """The same for a fork told by signal: entropy from the kernel, generation from its file."""
        _, failure = shield(self._become_live)
        return failure

    def _become(self, request: Mapping[str, Any]) -> None:
        seed = bytes.fromhex(request["seed"])
        if len(seed) < MIN_SEED:
            raise ValueError(f"a fork seed needs {MIN_SEED} bytes, this one has {len(seed)}")
        self.generation = str(request.get("generation", ""))
        self.info = dict(request.get("info") or {})
        reseed(seed)
        self._call_back()

    def _become_live(self) -> None:
        reseed(_urandom(64))
        self.generation = self.current_generation()
        self._call_back()

    def _call_back(self) -> None:
        for callback in tuple(self._callbacks):
            callback()


_urandom = os.urandom


def _derive(seed: bytes, purpose: bytes) -> bytes:
    """32 bytes for one purpose: generators with the same algorithm must not get the same seed."""
    return blake2b(seed, digest_size=32, person=purpose).digest()


def reseed(seed: bytes) -> None:
    """Give every process-wide generator that is loaded a new state derived from ``seed``."""
    modules = sys.modules
    if "random" in modules:
        modules["random"]._inst.seed(int.from_bytes(_derive(seed, b"random"), "big"))
    if "numpy.random" in modules:
        words = memoryview(_derive(seed, b"numpy.random")).cast("I").tolist()
        modules["numpy.random"].seed(words)
    if "uuid" in modules:
        _reset_uuid(modules["uuid"], _derive(seed, b"uuid"))
    if "tempfile" in modules:
        vars(modules["tempfile"])["_name_sequence"] = None
    if "_ssl" in modules:
        modules["_ssl"].RAND_add(_derive(seed, b"ssl"), 32.0)
    if "multiprocessing.process" in modules:
        modules["multiprocessing.process"].current_process().authkey = _derive(seed, b"authkey")


def _reset_uuid(uuid: types.ModuleType, entropy: bytes) -> None:
    """uuid1 in a fork: a random node (RFC 9562, section 6.10: multicast bit set) and no memory of the last one.

    libuuid remembers its node and clock sequence where nothing can reset them, so Python's own generator takes over.
    """
    node = int.from_bytes(entropy[:6], "big") | 0x010000000000
    vars(uuid).update(_generate_time_safe=None, _last_timestamp=None, _node=node)
