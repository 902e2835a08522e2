"""Words of the command line parsed into values: sizes, variables, pairs of a local and a sandbox path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prong.errors import InvalidInput

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\Z", re.IGNORECASE)
_SCALE = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str, field: str = "size") -> int:
    """Bytes from ``256M``, ``1.5G``, ``64KiB`` or ``4096``; the units are powers of 1024.

    Raises:
        InvalidInput: it is not a size, or not at least one byte; ``data["field"]`` is ``field``.
    """
    found = _SIZE.match(text.strip())
    size = int(float(found[1]) * (1 << _SCALE[found[2].lower()])) if found else 0
    if size < 1:
        raise InvalidInput(
            f"{field}: {text!r:.80} is not a size",
            hint="write a number of bytes, or one with K, M, G or T, such as 256M",
            data={"field": field},
        )
    return size


def format_size(count: int) -> str:
    """``count`` bytes for people, as :func:`parse_size` reads it: ``256M``, ``1.5G``, ``12K``, ``100``."""
    for unit in "TGMK":
        scale = 1 << _SCALE[unit.lower()]
        if count >= scale:
            return f"{count / scale:.1f}".removesuffix(".0") + unit
    return str(count)


def parse_variables(words: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping; InvalidInput for a word without a name or an equals sign."""
    variables = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals or "\0" in word:
            raise InvalidInput(
                f"env: {word!r:.80} is not NAME=VALUE", hint="for example --env MODE=fast", data={"field": "env"}
            )
        variables[name] = value
    return variables


@dataclass(frozen=True, slots=True)
class Pair:
    """A file on this host and its absolute path in a sandbox."""

    local: Path
    inside: str


def parse_put(word: str) -> Pair:
    """``LOCAL:/path``; the last ``:/`` separates. A path that ends in ``/`` is a directory the name is added to."""
    local, separator, rest = word.rpartition(":/")
    if not separator or not local:
        raise InvalidInput(
            f"put: {word!r:.200} is not LOCAL:/path", hint="for example --put data.csv:/root/data.csv", data={"field": "put"}
        )
    inside = f"/{rest}"
    return Pair(Path(local), inside + Path(local).name if inside.endswith("/") else inside)


def parse_get(word: str) -> Pair:
    """``/path:LOCAL``; the last ``:`` separates. A LOCAL that ends in ``/`` or is a directory gets the path's own name."""
    inside, separator, local = word.rpartition(":")
    if not separator or not inside.startswith("/") or not local:
        raise InvalidInput(
            f"get: {word!r:.200} is not /path:LOCAL", hint="for example --get /root/plot.png:plot.png", data={"field": "get"}
        )
    target = Path(local)
    if local.endswith("/") or target.is_dir():
        target /= inside.rstrip("/").rpartition("/")[2]
    return Pair(target, inside)
