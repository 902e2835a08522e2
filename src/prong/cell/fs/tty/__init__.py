"""Pseudo-terminals: pairs of a master and a slave with the kernel's line editing in between (pty(7), termios(3)).

Words
-----
Terminal    one pair: its settings, the two directions' buffers, and who has it open.
Settings    ``struct termios`` and the window size.
Discipline  what happens to bytes on the way: line editing, echo, signals on input; newlines on output.
Master      the side that a terminal emulator (or ``pty.openpty``'s caller) holds; opening /dev/ptmx makes a pair.
Slave       the side that looks like a terminal: /dev/pts/N.

Job control stops at signals to the foreground group: a cell has one process, and it is always in the foreground.
Start reading at ``terminal.py``.
"""
