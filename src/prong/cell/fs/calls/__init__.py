"""System calls on files and descriptors, a topic a module. Importing this package registers all of them.

Words
-----
find      from (dirfd, pointer) arguments to a place in the tree (``paths.py``); every path call starts so.
Progress  how far a call that waits has got; it lives in ``task.scratch`` and the call starts after it when it runs again.
pieces    program memory as (pointer, length) pairs; plain reads and writes are those of one piece.
refused   calls that would configure a kernel: EPERM, and a line in the cell's refusal log.

The modules check arguments and errnos in Linux's order and leave the work to ``ops.py``, ``opening.py`` and the files. They
touch nothing but the kernel layer's state. Start reading at ``paths.py``, then ``reading.py`` and ``opening.py``.
"""

from __future__ import annotations

import importlib

_TOPICS = (
    "attributes", "descriptors", "directories", "memfd", "names", "opening", "places", "reading", "refused", "stats",
    "transfer", "watches", "xattrs",
)  # fmt: skip
for _name in _TOPICS:
    importlib.import_module(f"{__name__}.{_name}")
