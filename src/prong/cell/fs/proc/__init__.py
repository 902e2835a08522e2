"""/proc (and /sys): files whose text is made when they are read.

Words
-----
text    a file that one small function ``(kernel, thread id) -> bytes`` makes, registered with ``@text(path)``.
fixed   a text that never changes, kept as a string in a table.
taker   the function behind one of the few texts that can be written.
magic   a link that leads to an object (an open file, a directory), not to a path.

The functions may look at all of the kernel layer's state and change only what their file is about.
``nodes.py`` has the machinery: directories described by tables, text files with one function each. ``process.py`` makes the
texts about the program, ``system.py`` those about the computer, ``fds.py`` the descriptors' directories; ``tree.py`` joins
names and functions. Source: proc(5). Start reading at ``nodes.py``.
"""
