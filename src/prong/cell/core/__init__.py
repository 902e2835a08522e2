"""What every part of the cell's kernel layer shares: no policy, no topic, just the words.

Words
-----
SysErr      a system call fails with an errno; the only way a handler reports failure.
WouldBlock  raised by a File that has nothing to give (or no room) right now; the caller decides to wait or answer EAGAIN.
Wait        raised by a handler to park the calling task; when it is woken the handler runs again *from the start*.
WaitQueue   the tasks parked on one condition; ``wake`` makes them run their handlers again.
File        an open file description; descriptors are small numbers that point at one.
GuestMemory how handlers reach the program's memory; every access is checked and may raise SysErr(EFAULT).
saved       marks the classes that a snapshot may contain.

A handler is a plain function ``(kernel, task, *integers) -> int``. It must not keep state of its own in Python variables
across a wait: whatever it needs when it runs again lives in ``task.scratch`` (or in the objects it works on). That is what
makes a cell forkable and snapshotable at any moment, also in the middle of a blocked call.

Start reading at ``errors.py``, then ``file.py`` and ``table.py``.
"""
