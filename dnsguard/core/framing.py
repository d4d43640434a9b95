"""Two length octets before each message on a stream (RFC 1035 section 4.2.2, RFC 7766 section 8).

Bytes arrive in pieces of any size; whole messages come out. The reader knows no connection and no
time: who has waited too long for the rest of a message is decided by whoever owns the connection.
"""

from __future__ import annotations

LENGTH_OCTETS = 2


def frame(message: bytes) -> bytes:
    """Return `message` with its length in front, ready for one write (RFC 7766 section 8)."""
    return len(message).to_bytes(LENGTH_OCTETS, "big") + message


class FrameReader:
    """Cuts a stream into messages.

    A reader never holds more than one incomplete message, so its buffer stays under 64 KiB plus
    the bytes of the read that completed the last one.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def partial(self) -> bool:
        """True while the beginning of a message has come and its end has not."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the bytes just read; return the messages that are now complete, in order."""
        if self._rest:
            data = self._rest + data
        messages = []
        start, size = 0, len(data)
        while size - start >= LENGTH_OCTETS:
            end = start + LENGTH_OCTETS + (data[start] << 8 | data[start + 1])
            if end > size:
                break
            messages.append(data[start + LENGTH_OCTETS : end])
            start = end
        self._rest = data[start:]
        return messages
