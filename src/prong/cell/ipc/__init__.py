"""What threads of the program wait on and talk through: pipes, sockets, timers, events, and waiting for many at once.

Words
-----
EventQueue  a wait queue that also tells epoll *which* events a change may have brought.
Watch       one epoll registration: a file, a descriptor number, the events asked for.
Pipe        the buffer behind pipe(2) and FIFOs; PipeEnd is a descriptor's view of it.
Channel     the bytes on their way in one direction of a stream socket.
Socket      the base of AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK sockets; nothing ever leaves the cell.
Loopback    the namespace all sockets of a cell share: ports, abstract names, and the memory they may hold.
Progress    what a blocked send or receive has to remember across a wait.

Everything the host holds for the program here is counted: 1 MiB a pipe and 64 MiB for all pipes, 256 KiB a socket and
direction and 64 MiB for all sockets, 4096 pending connections, descriptors in flight as many as may be open.

Addresses other than the cell's own loopback are refused by design (:mod:`prong.cell.refusals`).

Start reading at ``events.py``, then ``pipe.py`` and ``socket.py``; ``calls.py`` lists the modules that hold handlers.
"""
