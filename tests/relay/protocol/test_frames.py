"""Tests of relay.protocol.frames."""

from django.test import SimpleTestCase

from relay.protocol import frames

STREAM = bytes(range(16))


class FrameTests(SimpleTestCase):
    def test_data_is_type_id_payload(self) -> None:
        self.assertEqual(frames.data_frame(STREAM, b"hello"), b"\x01" + STREAM + b"hello")
        self.assertEqual(frames.data_frame(STREAM, b""), b"\x01" + STREAM)

    def test_data_takes_any_buffer(self) -> None:
        for payload in (bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
            self.assertEqual(frames.data_frame(STREAM, payload), b"\x01" + STREAM + b"abc")

    def test_control_is_type_and_body(self) -> None:
        self.assertEqual(frames.control_frame(b"{}"), b"\x02{}")

    def test_limits_are_the_protocols(self) -> None:
        self.assertEqual(frames.MAX_OUTGOING_MESSAGE, 32785)
        self.assertEqual(len(frames.data_frame(STREAM, bytes(frames.MAX_PAYLOAD))), frames.MAX_OUTGOING_MESSAGE)
        self.assertGreater(frames.MAX_INCOMING_MESSAGE, frames.MAX_FIRST_PAYLOAD + frames.DATA_HEADER_LENGTH)
        self.assertEqual(frames.MAX_INCOMING_MESSAGE, 1 << 20)
