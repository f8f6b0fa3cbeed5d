"""Tests of relay.transport.frames, against the websockets library as the other side."""

from __future__ import annotations

import itertools
import struct

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from relay.transport.frames import (
    BINARY,
    CONTINUATION,
    MAX_FRAGMENTS,
    PING,
    TEXT,
    BrokenProtocol,
    FrameDecoder,
    FrameEncoder,
    close_payload,
    parse_close,
)

LIMIT = 100_000
SIZES = st.sampled_from([0, 1, 125, 126, 127, 1000, 65535, 65536, LIMIT]) | st.integers(0, 2000)


def served(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A server's frame, as websockets writes it."""
    return Frame(Opcode(opcode), data, fin).serialize(mask=False)


def read_all(decoder: FrameDecoder, wire: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    """What the decoder makes of ``wire`` when it arrives in pieces, as a connection feeds it."""
    got, rest = [], b""
    edges = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    for start, stop in itertools.pairwise(edges):
        data = memoryview(rest + wire[start:stop])
        got += [(opcode, bytes(payload)) for opcode, payload in decoder.decode(data)]
        rest = bytes(data[decoder.used :])
        assert decoder.wanted == 0 or decoder.wanted > len(rest)
    assert rest == b""
    return got


def unmasked(frame: bytes) -> Frame:
    """A client's frame, as websockets reads it."""
    reader = StreamReader()
    reader.feed_data(frame)
    parser = Frame.parse(reader.read_exact, mask=True, max_size=None)
    try:
        next(parser)
    except StopIteration as done:
        return done.value
    raise AssertionError("the frame is not whole")


class DecoderTests(SimpleTestCase):
    @given(
        st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), SIZES, st.integers(1, 4)), max_size=6),
        st.lists(st.integers(0, 400_000), max_size=12),
    )
    def test_messages_arrive_whole_however_they_are_cut(self, messages, cuts) -> None:
        wire, expected = b"", []
        for number, (opcode, size, fragments) in enumerate(messages):
            data = bytes([number]) * size
            step = -(-size // fragments) or 1
            parts = [data[index : index + step] for index in range(0, size, step)] or [b""]
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                wire += served(CONTINUATION if index else opcode, part, fin=last)
                if not last:
                    wire += served(PING, b"between")  # control frames may stand between fragments
                    expected.append((PING, b"between"))
            expected.append((opcode, data))
        self.assertEqual(read_all(FrameDecoder(LIMIT), wire, cuts), expected)

    def test_the_caller_may_stop_between_two_messages(self) -> None:
        decoder = FrameDecoder(LIMIT)
        wire = memoryview(served(BINARY, b"one") + served(BINARY, b"two"))
        self.assertEqual(bytes(next(iter(decoder.decode(wire)))[1]), b"one")
        rest = wire[decoder.used :]
        self.assertEqual([bytes(payload) for _, payload in decoder.decode(rest)], [b"two"])

    def test_a_long_frame_says_how_much_of_it_is_to_come(self) -> None:
        decoder = FrameDecoder(LIMIT)
        self.assertEqual(list(decoder.decode(memoryview(served(BINARY, bytes(70_000))[:1000]))), [])
        self.assertEqual((decoder.used, decoder.wanted), (0, 70_010))

    def test_what_the_rfc_forbids_is_refused(self) -> None:
        begun = served(BINARY, b"a", fin=False)
        for name, wire, code in (
            ("reserved bits", b"\xc2\x00", 1002),
            ("unknown opcode", b"\x83\x00", 1002),
            ("unknown control opcode", b"\x8b\x00", 1002),
            ("masked", b"\x82\x81abcdx", 1002),
            ("long control frame", b"\x89\x7e\x00\x7e" + bytes(126), 1002),
            ("fragmented control frame", b"\x09\x00", 1002),
            ("nothing to continue", served(CONTINUATION, b"x"), 1002),
            ("a message inside another", begun + served(TEXT, b"x"), 1002),
            ("a binary one inside another", begun + served(BINARY, b"x"), 1002),
            ("too big", b"\x82\x7f" + struct.pack("!Q", LIMIT + 1), 1009),
            ("much too big", b"\x82\x7f" + b"\xff" * 8, 1009),
            ("too big in fragments", begun + b"\x80\x7f" + struct.pack("!Q", LIMIT), 1009),
            ("too many fragments", begun + served(CONTINUATION, b"", fin=False) * MAX_FRAGMENTS, 1008),
        ):
            with self.subTest(name), self.assertRaises(BrokenProtocol) as caught:
                list(FrameDecoder(LIMIT).decode(memoryview(wire)))
            self.assertEqual(caught.exception.code, code)

    @given(st.binary(max_size=200))
    def test_rubbish_is_refused_or_waits_for_more(self, wire: bytes) -> None:
        try:
            list(FrameDecoder(LIMIT).decode(memoryview(wire)))
        except BrokenProtocol:
            pass


class EncoderTests(SimpleTestCase):
    @given(st.sampled_from([TEXT, BINARY, PING]), SIZES, st.binary(min_size=1, max_size=3))
    def test_websockets_reads_what_is_written(self, opcode: int, size: int, content: bytes) -> None:
        size = min(size, 125) if opcode == PING else size
        payload = (content * size)[:size]
        frame = unmasked(b"".join(FrameEncoder().encode(opcode, memoryview(payload))))
        self.assertEqual((frame.opcode, bytes(frame.data), frame.fin), (opcode, payload, True))

    def test_each_frame_has_a_key_of_its_own(self) -> None:
        encoder = FrameEncoder()
        keys = {encoder.encode(BINARY, b"x")[0][2:6] for _ in range(5000)}
        self.assertGreater(len(keys), 4990)  # of 2^32; two alike in 5 000 are rare


class CloseTests(SimpleTestCase):
    def test_websockets_understands_a_close(self) -> None:
        self.assertEqual(Close.parse(close_payload(1001, "going ä")), Close(1001, "going ä"))
        self.assertEqual(parse_close(Close(1008, "no").serialize()), (1008, "no"))
        self.assertEqual(parse_close(b""), (1005, ""))

    def test_a_long_reason_is_cut_between_two_characters(self) -> None:
        payload = close_payload(1002, "ä" * 100)
        self.assertEqual(parse_close(payload), (1002, "ä" * 61))
        self.assertLessEqual(len(payload), 125)

    def test_half_a_code_and_bad_text_are_refused(self) -> None:
        for payload, code in ((b"\x03", 1002), (b"\x03\xe8\xff", 1007)):
            with self.assertRaises(BrokenProtocol) as caught:
                parse_close(payload)
            self.assertEqual(caught.exception.code, code)
