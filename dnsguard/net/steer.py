"""Which of the sockets that listen at one address gets a new connection: the younger ones.

A listener that is about to close would take connections into its grave: those whose handshake is
under way. So it first has the kernel choose among the sockets that joined after it, by a program of
four instructions for the whole group (socket(7), SO_ATTACH_REUSEPORT_CBPF). The kernel numbers them
in the order in which they came; a number that none has makes it choose as it always does.
"""

from __future__ import annotations

import socket
import struct

from dnsguard.net.mmsg import address

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h; Python has no name for it
RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM of linux/filter.h
LOAD, MODULO, ADD, RETURN = 0x20, 0x94, 0x04, 0x16  # of a 32-bit accumulator
_INSTRUCTION = struct.Struct("=HBBI")  # code, two jumps, operand
_PROGRAM = struct.Struct("@HP")  # how many, and where


def to_the_younger(sock: socket.socket, ours: int) -> bool:
    """Give new connections to those after the first `ours` of the group; False if there is none.

    It is taken that the others are as many, as where one version of a server follows another.
    """
    steps = ((LOAD, RANDOM), (MODULO, ours), (ADD, ours), (RETURN, 0))
    program = b"".join(_INSTRUCTION.pack(code, 0, 0, operand) for code, operand in steps)
    value = _PROGRAM.pack(len(steps), address(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, value)
    except OSError:
        return False
    return True
