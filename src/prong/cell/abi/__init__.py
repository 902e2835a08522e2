"""The Linux x86-64 ABI as data: no behaviour.

Words
-----
number  what a program puts into ``rax`` before ``syscall``; ``numbers.NR`` has them by name, ``numbers.NAME`` back.
topic   constants that only one topic's handlers use live with those handlers, not here.

Source: the Linux kernel's uapi headers and the System V x86-64 psABI. Start reading at ``numbers.py``.
"""
