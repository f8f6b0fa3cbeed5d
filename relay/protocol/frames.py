"""Binary frames: one byte of type, then data or control (docs/protocol.md, "Binary frames")."""

from __future__ import annotations

DATA = 0x01
CONTROL = 0x02

STREAM_ID_LENGTH = 16
DATA_HEADER_LENGTH = 1 + STREAM_ID_LENGTH

MAX_PAYLOAD = 32 * 1024
"""Bytes of payload in the largest data message that a node accepts and, after the first, sends."""

MAX_FIRST_PAYLOAD = 64 * 1024
"""Bytes of payload that a stream's first data message from the node may carry."""

MAX_OUTGOING_MESSAGE = MAX_PAYLOAD + DATA_HEADER_LENGTH
"""A node closes the session over any message longer than this (32 785 bytes)."""

MAX_INCOMING_MESSAGE = 1024 * 1024
"""The client accepts messages up to this and closes with 1009 above it."""


def data_frame(stream_id: bytes, payload: bytes | bytearray | memoryview) -> bytes:
    """Return the data message that carries ``payload`` for the stream ``stream_id`` (16 bytes)."""
    return b"".join((b"\x01", stream_id, payload))


def control_frame(body: bytes) -> bytes:
    """Return the control message around a JSON body."""
    return b"\x02" + body
