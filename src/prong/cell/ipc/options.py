"""Socket options: which there are, how long their values are, and what they are before anyone sets them.

Sources: socket(7), ip(7), ipv6(7), tcp(7), udp(7), and the kernel's include/uapi headers for the numbers.
"""

from __future__ import annotations

import struct

SOL_SOCKET, SOL_IP, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_UDPLITE, SOL_NETLINK = 1, 0, 6, 17, 41, 136, 270

SO_DEBUG, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF = 1, 2, 3, 4, 5, 6, 7, 8
SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY, SO_LINGER, SO_BSDCOMPAT, SO_REUSEPORT = 9, 10, 11, 12, 13, 14, 15
SO_PASSCRED, SO_PEERCRED, SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO = 16, 17, 18, 19, 20, 21
SO_BINDTODEVICE, SO_PEERNAME, SO_TIMESTAMP, SO_ACCEPTCONN, SO_PEERSEC = 25, 28, 29, 30, 31
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_PROTOCOL, SO_DOMAIN, SO_PEERGROUPS = 32, 33, 38, 39, 59
SO_COOKIE, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 57, 66, 67
IPV6_V6ONLY = 26
TCP_INFO, TCP_CONGESTION, TCP_MAXSEG = 11, 13, 2


def i32(value: int) -> bytes:
    """A C int."""
    return struct.pack("<i", value)


_SOCKET_INTS = {
    SO_DEBUG: 0, SO_DONTROUTE: 0, SO_BROADCAST: 0, SO_KEEPALIVE: 0, SO_OOBINLINE: 0, SO_NO_CHECK: 0, SO_PRIORITY: 0,
    SO_TIMESTAMP: 0, 34: 0, 35: 0, 36: 0, 37: 0, 40: 0, 41: 0, 42: -1, 43: 0, 44: 0, 45: 0, 46: 0, 49: 0, 60: 0,
    62: 0, 63: 0, 64: 0, 65: 0, 69: 0, 70: 0, 74: 1,
}  # fmt: skip
_IP_INTS = {
    1: 0, 2: 64, 3: 0, 5: 0, 6: 0, 7: 0, 8: 0, 10: 1, 11: 0, 12: 0, 13: 0, 15: 0, 18: 0, 19: 0, 20: 0, 21: 0, 22: 0,
    23: 0, 24: 0, 25: 0, 26: 0, 32: 0, 33: 1, 34: 1, 49: 1, 50: 0,
}  # fmt: skip
_TCP_INTS = {
    1: 0, TCP_MAXSEG: 32768, 3: 0, 4: 7200, 5: 75, 6: 9, 7: 6, 8: 60, 9: 0, 10: 65536, 12: 1, 16: 0, 17: 0, 18: 0,
    19: 0, 20: 0, 23: 0, 24: 0, 25: -1, 26: 0, 27: 0, 29: 0, 30: 0, 34: 0, 36: 0, 37: 0,
}  # fmt: skip
_UDP_INTS = {1: 0, 100: 0, 101: 0, 102: 0, 103: 0, 104: 0}
_IPV6_INTS = {
    1: 0, 2: 0, 3: 0, 7: 0, 8: 0, 16: 64, 17: 0, 18: 1, 19: 1, 23: 1, 24: 65536, 25: 0, 29: 1, IPV6_V6ONLY: 0, 33: 0,
    49: 0, 51: 0, 53: 0, 56: 0, 58: 0, 60: 0, 62: 0, 66: 0, 67: 0, 70: 1, 72: 0, 73: 0, 74: 0, 75: 0, 76: 0, 78: 0,
}  # fmt: skip
INTS: dict[tuple[int, int], int] = {
    (level, name): value
    for level, table in (
        (SOL_SOCKET, _SOCKET_INTS),
        (SOL_IP, _IP_INTS),
        (SOL_TCP, _TCP_INTS),
        (SOL_UDP, _UDP_INTS),
        (SOL_IPV6, _IPV6_INTS),
        (SOL_UDPLITE, {10: 0, 11: 0}),
        (SOL_NETLINK, {3: 0, 4: 0, 5: 0, 10: 0, 11: 0, 12: 0}),
    )
    for name, value in table.items()
}
"""(level, name) → the default of every option that is one int and only needs remembering."""

BOOLS = frozenset(
    [(SOL_SOCKET, n) for n in (SO_DEBUG, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_TIMESTAMP, 35)]
    + [(SOL_TCP, n) for n in (1, 3)]
    + [(SOL_IPV6, n) for n in (49, 51, 66, 70)]
    + [(SOL_IP, n) for n in (8, 12, 13)]
)
"""Options that read back as 0 or 1 whatever was set."""

RANGES: dict[tuple[int, int], tuple[int, int]] = {
    (SOL_TCP, 2): (0, 32767), (SOL_TCP, 4): (1, 32767), (SOL_TCP, 5): (1, 32767), (SOL_TCP, 6): (1, 127),
    (SOL_TCP, 7): (1, 127), (SOL_TCP, 18): (0, 0x7FFFFFFF), (SOL_IP, 2): (-1, 255), (SOL_IP, 33): (-1, 255),
    (SOL_IPV6, 16): (-1, 255), (SOL_IPV6, 18): (-1, 255), (SOL_IPV6, 67): (-1, 255), (SOL_SOCKET, 42): (-1, 0x7FFFFFFF),
}  # fmt: skip
"""Options with bounds; anything else is EINVAL. Multicast and hop values of -1 mean the default."""

DEFAULT_IF_NEGATIVE = {(SOL_IP, 2): 64, (SOL_IP, 33): 1, (SOL_IPV6, 16): 64, (SOL_IPV6, 18): 1, (SOL_IPV6, 67): 0}

BLOBS: dict[tuple[int, int], int] = {
    (SOL_IP, 35): 8, (SOL_IP, 36): 8, (SOL_IPV6, 20): 20, (SOL_IPV6, 21): 20, (SOL_SOCKET, 26): 16, (SOL_SOCKET, 27): 0,
    (SOL_IP, 32): 4, (SOL_IP, 4): 0, (SOL_TCP, 14): 0, (SOL_SOCKET, 47): 4,
}  # fmt: skip
"""Options whose value is more than an int, accepted when at least so long: (level, name) → bytes."""
