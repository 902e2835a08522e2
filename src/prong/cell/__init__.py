"""Cells: a KVM virtual machine around one Linux process, with no guest kernel.

Words
-----
kernel layer  what answers the program's system calls: ``core``, ``memory``, ``task``, ``fs``, ``ipc``; no host calls.
cpu           the virtual CPU and the run loop.
program       loading executables.
host          the jailed process that carries one cell, and the spawner it is forked from.
jail          namespaces, root, capabilities, limits and the system-call filter of those processes.
state         the whole of a cell as bytes, and as a snapshot directory or one portable file.
engine        all of it from outside: templates, cells, snapshots. This is what other layers use.

Start reading at ``engine/engine.py`` from outside, at ``cpu/loop.py`` from inside.
"""
