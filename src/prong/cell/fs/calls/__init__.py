"""System calls on files and descriptors, a topic a module. Importing this package registers all of them."""

from __future__ import annotations

import importlib

_TOPICS = (
    "attributes", "descriptors", "directories", "memfd", "names", "opening", "places", "reading", "refused", "stats",
    "transfer", "watches", "xattrs",
)  # fmt: skip
for _name in _TOPICS:
    importlib.import_module(f"{__name__}.{_name}")
