"""Neither Python code nor a time zone comes out of the image.

After the root is pivoted, ``sys.path`` names directories *of the image*: an import there would run, in the VMM, code
that the image's author wrote. So path-based import is taken out of the interpreter when the jail closes; built-in and
frozen modules, which are part of the executable, stay. What Python imports lazily must be there: :func:`preload`.

glibc looks at ``/etc/localtime`` again on every mktime(3) and strftime(3), and would parse the image's, in C. A zone
named in the environment and read before is not looked for again, so the jail's clock is set to UTC.
"""

from __future__ import annotations

import codecs
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType

from prong.cell.jail.layers import Fact, Layer

# What the standard library, or a traceback, imports at its first use rather than at the top.
_LAZY = (
    *("array", "bisect", "collections.abc", "ctypes", "dataclasses", "enum", "errno", "fcntl", "functools", "hashlib"),
    *("heapq", "io", "itertools", "json", "linecache", "math", "mmap", "random", "select", "selectors", "signal"),
    *("socket", "stat", "string", "struct", "textwrap", "time", "tokenize", "traceback", "typing", "warnings", "zlib"),
    *("_strptime", "locale", "datetime", "stringprep", "unicodedata"),
)
_CODECS = ("utf-8", "ascii", "latin-1", "utf-8-sig", "utf-16-le", "unicode-escape", "idna")


def preload(modules: Sequence[str] = ()) -> None:
    """Imports what Python would otherwise import on first use, and ``modules``; to be called before :func:`enter`.

    Raises:
        ImportError: one of ``modules`` does not exist.
    """
    for name in (*_LAZY, *modules):
        importlib.import_module(name)
    for name in _CODECS:
        codecs.lookup(name)


class _Closed(importlib.abc.MetaPathFinder):
    """The end of the line for every module that is not loaded yet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        raise ModuleNotFoundError(f"{fullname} was not imported before the jail closed; add it to preload()", name=fullname)


def close() -> Fact:
    """Takes path-based import out of this interpreter and fixes its time zone; while the host's files are there."""
    os.environ["TZ"] = "UTC0"
    time.tzset()
    sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, _Closed()]
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
    return Fact(Layer.IMPORTS, "only built-in and frozen modules can still be imported; the time zone is UTC")
