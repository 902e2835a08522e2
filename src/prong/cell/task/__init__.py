"""Threads of the one process a cell runs, who runs next, signals, futexes and time.

Words
-----
Task        one thread: its registers while it is not on the CPU, its signal state, what it waits for.
Scheduler   which task runs on the cell's one virtual CPU; ready, blocked, and time slices.
Clock       the cell's own time: monotonic time stands still while a cell is stored, real time does not.
Timer       something due at a cell time: sleeps, timeouts, POSIX timers, timer descriptors.

Start reading at ``task.py``.
"""
