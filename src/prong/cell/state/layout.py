"""The shape of the encoded graph, shared by the side that writes it and the side that reads it.

A graph is the list ``[enums, arrays, lists, deques, sets, dicts, objects, runs, root]``. Nodes are numbered in that
order, from 0, each kind's nodes in the order in which they are given:

enums    ``[[class name, [value, …]], …]``
arrays   ``[length, …]`` of bytearrays; their bytes lie end to end in the bulk part, outside the graph
lists    ``[[length, …], block]``, the items of all lists end to end
deques   ``[[length, …], [maxlen, …], block]``
sets     ``[[length, …], block]``
dicts    ``[[length, …], block of keys, block of values]``
objects  ``[[class name, [attribute, …], count, [block, …]], …]``, one block of ``count`` values for each attribute
runs     values that must be whole as soon as they exist, so each refers only to nodes before its run:
         ``[TUPLES, [length, …], block]``, ``[FROZENSETS, [length, …], block]`` or
         ``[OBJECTS, class name, [attribute, …], count, [block, …]]`` for frozen dataclasses
root     a node number

A block is ``[mask, [value, …]]``: mask nil when all values are plain, true when all are node numbers, else one byte for
each value, 1 where it is a node number.
"""

from __future__ import annotations

from types import NoneType

FORMAT = 1
"""Version of this layout; a reader refuses any other."""

SCALARS: frozenset[type] = frozenset({NoneType, bool, int, float, str, bytes})
"""Types whose values are written in place and have no identity."""

TUPLES, FROZENSETS, OBJECTS = 0, 1, 2
"""Kinds of run."""

MAX_NODES = 1 << 22
"""Most nodes in one graph: a table of 100,000 files fits many times."""

MAX_RUNS = 256
"""Most runs; it bounds how deep immutable values nest, and so the C recursion of hash()."""

MAX_GRAPH = 1 << 28
"""Largest encoded graph in bytes, without the bulk part."""

MAX_BIG_INTS = 4096
"""Most integers beyond 64 bits; they are the ones with which a dict could be flooded with equal hashes."""

MAX_BIG_INT_BYTES = 4096
"""Largest single integer, in bytes."""

MAX_HASH_WORK = 1 << 24
"""Most values hashed in all keys together; shared nested tuples could otherwise ask for exponentially many."""

BIG_INT = 1
"""The msgpack extension type of an integer beyond 64 bits: little-endian two's complement."""
