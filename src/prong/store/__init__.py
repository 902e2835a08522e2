"""What is remembered: where prong keeps its data on this host.

Words:
    data directory: everything that outlives a process (images, templates, snapshots).
    runtime directory: sockets and locks of running processes, inside the data directory so that one
        ``PRONG_HOME`` moves all of it.

May touch: the data directory, and nothing else. Start reading at :mod:`prong.store.paths`.
"""

from __future__ import annotations
