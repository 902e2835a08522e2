"""/proc (and /sys): files whose text is made when they are read.

``nodes.py`` has the machinery: directories described by tables, text files with one function each. ``process.py`` makes the
texts about the program, ``system.py`` those about the computer, ``fds.py`` the descriptors' directories; ``tree.py`` joins
names and functions. Source: proc(5).
"""
