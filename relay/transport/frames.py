"""WebSocket frames after the handshake, as a client reads and writes them (RFC 6455, section 5). No I/O.

websockets makes the handshake; its frames copy each message several times, which is most of what a relay does. Here a
message is cut out of the buffer that the socket was read into, and copied once, while it is masked, on its way out.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

Buffer = bytes | bytearray | memoryview

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MAX_FRAGMENTS: Final = 4096
"""Fragments of one message; real nodes do not fragment, and every one costs time that other sessions wait for."""

MAX_CONTROL: Final = 125
"""Bytes of payload of a control frame (RFC 6455, section 5.5)."""

_FIN: Final = 0x80
_MASKED: Final = 0x80
_WHOLE_BINARY: Final = _FIN | BINARY


class BrokenProtocol(Exception):
    """The server sent what RFC 6455 does not allow, or too much of it; ``code`` is for the Close that answers it."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(problem)
        self.code = code


class FrameDecoder:
    """Cuts what a server sends into messages and control frames.

    Args:
        max_message: bytes of the longest message that is taken.

    Attributes:
        used: bytes of what was last given to `decode` that are done with.
        wanted: bytes from there to the end of the frame that begins there, 0 where not even its header is whole.
    """

    def __init__(self, max_message: int) -> None:
        self.used = 0
        self.wanted = 0
        self._max_message = max_message
        self._fragments: list[bytes] = []
        self._fragmented = 0  # opcode of the message whose fragments are being collected; 0 for none
        self._collected = 0

    def decode(self, data: memoryview) -> Iterator[tuple[int, Buffer]]:
        """Yield opcode and payload of each whole message and control frame at the head of ``data``.

        The payload is a view of ``data``, but for a message that came in fragments. The caller may stop early; the
        next call takes what follows ``used``.

        Raises:
            BrokenProtocol: the server broke the protocol; nothing more can be read from it.
        """
        position = self.used = self.wanted = 0
        end = len(data)
        while end - position >= 2:
            first, size = data[position], data[position + 1]
            start = position + 2
            if size >= 126:
                if size == 126:
                    start += 2
                    if start > end:
                        return
                    size = data[start - 2] << 8 | data[start - 1]
                elif size == 127:
                    start += 8
                    if start > end:
                        return
                    size = int.from_bytes(data[start - 8 : start], "big")
                else:
                    raise BrokenProtocol(1002, "masked frame")
            if size > self._max_message - self._collected:
                raise BrokenProtocol(1009, f"message above {self._max_message} bytes")
            stop = start + size
            if first == _WHOLE_BINARY and not self._fragmented:
                if stop > end:
                    self.wanted = stop - position
                    return
                position = self.used = stop
                yield BINARY, data[start:stop]
                continue
            self._check(first, size)
            if stop > end:
                self.wanted = stop - position
                return
            position = self.used = stop
            opcode = first & 0x0F
            if opcode >= CLOSE:
                yield opcode, bytes(data[start:stop])
            elif first & _FIN and not self._fragmented:
                yield opcode, data[start:stop]
            else:
                whole = self._collect(first, bytes(data[start:stop]))
                if whole is not None:
                    yield whole

    def _check(self, first: int, size: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise BrokenProtocol(1002, "reserved bits are set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise BrokenProtocol(1002, f"unknown opcode {opcode}")
            if size > MAX_CONTROL or not first & _FIN:
                raise BrokenProtocol(1002, "control frame is too long or fragmented")
        elif opcode > BINARY:
            raise BrokenProtocol(1002, f"unknown opcode {opcode}")
        elif (opcode == CONTINUATION) != bool(self._fragmented):
            raise BrokenProtocol(1002, "continuation frame out of place")

    def _collect(self, first: int, part: bytes) -> tuple[int, bytes] | None:
        opcode = first & 0x0F
        if opcode != CONTINUATION:
            self._fragmented = opcode
        # Empty fragments would add up without ever reaching the size limit.
        self._fragments.append(part)
        self._collected += len(part)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise BrokenProtocol(1008, f"message in more than {MAX_FRAGMENTS} fragments")
        if not first & _FIN:
            return None
        whole = self._fragmented, b"".join(self._fragments)
        self._fragments, self._fragmented, self._collected = [], 0, 0
        return whole


class FrameEncoder:
    """Makes a client's frames, each masked with a key of its own (RFC 6455, section 5.3)."""

    def __init__(self) -> None:
        self._keys = iter(())  # type: Iterator[bytes]

    def encode(self, opcode: int, payload: Buffer) -> tuple[bytes, bytes]:
        """Return the header and the masked payload of a whole message. Nothing of ``payload`` is kept."""
        key = next(self._keys, None)
        if key is None:
            # The system's generator costs as much for one key as for hundreds.
            pool = os.urandom(4096)
            self._keys = iter([pool[index : index + 4] for index in range(0, len(pool), 4)])
            key = next(self._keys)
        size = len(payload)
        if size < 126:
            header = bytes((_FIN | opcode, _MASKED | size)) + key
        elif size < 65536:
            header = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size) + key
        else:
            header = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size) + key
        return header, apply_mask(payload, key)


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a Close; a reason that is too long is cut (RFC 6455, section 5.5.1)."""
    return struct.pack("!H", code) + reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore").encode()


def parse_close(payload: Buffer) -> tuple[int, str]:
    """Return code and reason of a Close; 1005 where it has none (RFC 6455, section 7.1.5).

    Raises:
        BrokenProtocol: one byte is no code, or the reason is not UTF-8.
    """
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise BrokenProtocol(1002, "Close with half a code")
    try:
        return int.from_bytes(payload[:2], "big"), bytes(payload[2:]).decode()
    except UnicodeDecodeError:
        raise BrokenProtocol(1007, "reason of a Close is not UTF-8") from None
