"""Whether this host can give the jail at all: tried, not guessed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import NoReturn

from prong.cell.jail.jail import JailSpec, enter
from prong.cell.jail.namespaces import Identity
from prong.cell.jail.policy import vmm_policy
from prong.errors import HostUnfit, Json, ProngError


def probe(identity: Identity | None = None) -> dict[str, Json]:
    """Closes a jail around an empty directory and a forked child, seals it, and returns the report as JSON-ready data.

    It forks, so the caller had better have one thread. ``identity`` is needed when called by root.

    Raises:
        ProngError: the same error :func:`~prong.cell.jail.jail.enter` gave the child, with its code, hint and data.
    """
    with tempfile.TemporaryDirectory(prefix="prong-probe-") as root:
        os.chmod(root, 0o755)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _try(Path(root), writing, identity)
        os.close(writing)
        with open(reading, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
    if not answer:
        raise HostUnfit("the process that tried the jail died without a word", code="jail_unfit")
    found: dict[str, Json] = json.loads(answer)
    if "report" not in found:
        raise HostUnfit(
            str(found["message"]), hint=str(found["hint"]), code=str(found["code"]), data=_mapping(found["data"])
        )
    return _mapping(found["report"])


def _mapping(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"not a mapping: {value!r}")
    return value


def _try(root: Path, answer: int, identity: Identity | None) -> NoReturn:
    try:
        spec = JailSpec(root=root, policy=vmm_policy(()), keep_fds=frozenset({answer}), identity=identity)
        try:
            jail = enter(spec)
            jail.seal()
            said: dict[str, Json] = {"report": jail.report.as_json()}
        except ProngError as error:
            said = error.as_json()
        os.write(answer, json.dumps(said).encode())
    finally:
        os._exit(0)
