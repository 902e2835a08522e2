"""What ``python3 -I -X utf8 /usr/lib/prong/runtime`` runs first: load the runtime so that user code cannot break it.

User code shares this interpreter. It may delete builtins, patch ``json`` or ``traceback``, or clear ``sys.modules``.
So the runtime's modules, and private copies of the pure-Python library modules it calls, are loaded with a private copy
of the builtins and are then taken out of ``sys.modules``. What is written in C and has no state is shared.
"""

from __future__ import annotations

# Everything imported here is loaded the ordinary way, before private copies exist, so that it is shared with user code
# and never bound to them. asyncio is here because the first top-level await should not pay for importing it.
import ast  # noqa: F401
import asyncio  # noqa: F401
import atexit  # noqa: F401
import builtins
import collections  # noqa: F401
import contextlib  # noqa: F401
import hashlib  # noqa: F401
import importlib.machinery
import importlib.util
import inspect  # noqa: F401
import io  # noqa: F401
import linecache  # noqa: F401
import os
import random  # noqa: F401
import signal  # noqa: F401
import sys
import textwrap  # noqa: F401
import threading  # noqa: F401
import types
from collections.abc import Sequence

PACKAGE = "prong_guest"
PRIVATE_COPIES = ("json", "json.decoder", "json.encoder", "json.scanner", "traceback")


class PrivateLoader(importlib.machinery.SourceFileLoader):
    """Runs a module's source with its own copy of the builtins; writes no cache files."""

    own_builtins = dict(vars(builtins))

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the module; its functions look builtins up in the private copy for ever."""
        vars(module)["__builtins__"] = self.own_builtins
        super().exec_module(module)

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Write no byte code: the image is read-only and this runs once per template."""


class PrivateFinder:
    """A ``sys.meta_path`` entry that answers for the runtime's package and the private copies only."""

    def __init__(self, directory: str, sources: dict[str, str]) -> None:
        self.directory = directory
        self.sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a private module, or None for everybody else's."""
        if name in self.sources:
            source = self.sources[name]
        elif name == PACKAGE:
            source = os.path.join(self.directory, PACKAGE, "__init__.py")
        elif name.startswith(PACKAGE + "."):
            source = os.path.join(self.directory, PACKAGE, name[len(PACKAGE) + 1 :] + ".py")
        else:
            return None
        places = [os.path.dirname(source)] if source.endswith("__init__.py") else None
        loader = PrivateLoader(name, source)
        return importlib.util.spec_from_file_location(name, source, loader=loader, submodule_search_locations=places)


def library_sources() -> dict[str, str]:
    """Module name to source file of every library module that is copied."""
    sources = {}
    for name in PRIVATE_COPIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"this Python has no module {name}")
        sources[name] = spec.origin
    return sources


def load_runtime(directory: str) -> types.ModuleType:
    """Import ``prong_guest.runtime`` privately; on return ``sys.modules`` shows neither it nor the copies."""
    finder = PrivateFinder(directory, library_sources())
    public = {name: sys.modules.pop(name, None) for name in PRIVATE_COPIES}
    sys.meta_path.insert(0, finder)
    try:
        runtime = importlib.import_module(PACKAGE + ".runtime")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        for name, module in public.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    return runtime


def main() -> None:
    """Load the runtime, hide this directory from imports, and run until the control stream ends."""
    directory = os.path.dirname(os.path.abspath(__file__))
    runtime = load_runtime(directory)
    sys.path[:] = [""] + [entry for entry in sys.path if entry not in ("", directory)]
    arguments, sys.argv[:] = sys.argv[1:], [""]
    runtime.main(arguments)


if __name__ == "__main__":
    main()
