"""A cell's state as bytes: the kernel layer's objects, guest memory, the snapshot directory, the portable bundle.

Words
-----
state     every object reachable from the Kernel whose class is registered with ``@saved``; encoded into ``state.bin``.
schema    what a snapshot may say about one registered class: which attributes it has and which it must have.
node      one object of the graph that has an identity: a container, an enum member, or an instance of a saved class.
block     a column of values in the encoding, with a mask that tells plain values from references to nodes.
memory    the guest's physical memory: a sparse file in which pages of zeros are holes.
manifest  ``manifest.json``: what the snapshot is, what it needs, and the checksums of the rest.
bundle    a snapshot as one compressed file to carry to another host.

Bytes read here may come from anywhere. Only registered classes are made, only with attributes they declare; every count
is bounded; anything else is :class:`prong.errors.Corrupt`, and nothing of it is kept. What the checks cannot know is
whether the *values* make sense together: a hostile state is as harmless as the hostile program it stands for only
because it is decoded inside the jailed process that will run it.

Start reading at ``codec.py``.
"""
