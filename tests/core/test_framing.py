"""Messages on a stream come out whole and in order, however the bytes were cut on the way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, strategies as st

from dnsguard.core.framing import LENGTH_OCTETS, FrameReader, frame
from tests.core.build import query


def feed(pieces: list[bytes]) -> tuple[list[bytes], FrameReader]:
    reader = FrameReader()
    return [message for piece in pieces for message in reader.feed(piece)], reader


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535])
def test_a_frame_begins_with_its_length(size: int) -> None:
    message = bytes(size)
    framed = frame(message)
    assert framed == size.to_bytes(2, "big") + message
    assert feed([framed])[0] == [message]


def test_a_frame_cannot_hold_more_than_its_length_can_say() -> None:
    with pytest.raises(OverflowError):
        frame(bytes(65536))


def test_one_octet_at_a_time() -> None:
    messages = [query("a.example."), query("b.example.", do=True)]
    stream = b"".join(map(frame, messages))
    found, reader = feed([bytes((octet,)) for octet in stream])
    assert found == messages
    assert not reader.partial


def test_many_in_one_read() -> None:
    messages = [query(f"n{number}.example.") for number in range(50)]
    assert feed([b"".join(map(frame, messages))])[0] == messages


def test_partial_means_that_the_rest_is_awaited() -> None:
    reader = FrameReader()
    states = []
    for piece in (b"", b"\0", b"\3", b"ab", b"c", b"\0\0", b"\0\1x\0"):
        reader.feed(piece)
        states.append(reader.partial)
    assert states == [False, True, True, True, False, False, True]


@given(
    st.lists(st.binary(max_size=20), max_size=8),
    st.binary(max_size=3),
    st.lists(st.integers(0, 200), max_size=12),
)
@example([b""], b"", [1])
def test_where_the_stream_is_cut_makes_no_difference(
    messages: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    """`rest` is the beginning of a message that never ends: it must not come out."""
    rest = b"\xff" + rest if rest else b""
    stream = b"".join(map(frame, messages)) + rest
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    found, reader = feed(pieces)
    assert found == messages
    assert reader.partial is bool(rest)


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_octets_are_kept_until_they_make_a_message(pieces: list[bytes]) -> None:
    """Nothing is lost, and nothing is held beyond one message: what came in is accounted for."""
    found, reader = feed(pieces)
    came, out = sum(map(len, pieces)), sum(LENGTH_OCTETS + len(message) for message in found)
    assert out <= came
    assert reader.partial is (out < came)
    assert came - out < LENGTH_OCTETS + 65535
