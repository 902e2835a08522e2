"""The Linux x86-64 ABI as data: numbers, flags and structure layouts. No behaviour.

``numbers`` maps system call names to numbers. Constants used by one topic only live with that topic's handlers.
Source: the Linux kernel's uapi headers and the System V x86-64 psABI.
"""
