"""The jailed processes that carry cells, and the control protocol they speak.

Words
-----
spawner    one small single-threaded process per image, jailed, from which cell hosts are forked; pid 1 of its namespace.
cell host  the process of one cell: the VMM with one VM in it, sealed by a system-call filter before it sees guest bytes.
control    the socket between the engine (outside) and a cell host or spawner: framed msgpack, descriptors alongside.
parked     a cell host forked, sealed and warmed ahead of demand, waiting to be handed out.

The engine treats everything that comes out of a cell host as hostile. Start reading at ``cellhost.py``.
"""
