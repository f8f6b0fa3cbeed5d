"""An HMAC secret in a file, read without holding up anything but its own backend."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from relay.tasks import in_thread
from relay.text import decode
from relay.tokens.issuer import TokenError

MAX_SECRET: Final = 64 * 1024
"""Bytes in a secret's file."""

READ_WITHIN: Final = 5.0
"""Seconds for reading it: a named pipe, or a file server that is away, may never answer. A node waits 10 s for a
token."""


class SecretFile:
    """Reads a file for each token, in a thread of its own.

    Not in the event loop's threads, which all backends share. A read that hangs keeps its one thread; until that is
    back there is no other one.

    Args:
        path: of the file; its text is the secret, without white space around it.
        within: seconds for one read.
    """

    def __init__(self, path: str, within: float = READ_WITHIN) -> None:
        self._path, self._within = path, within
        self._reading: asyncio.Future[str] | None = None

    async def read(self) -> str:
        """Return the secret.

        Raises:
            TokenError: it cannot be read, or is none.
        """
        if self._reading is None or self._reading.done() or self._reading.get_loop() is not asyncio.get_running_loop():
            self._reading = in_thread(partial(read_secret, self._path), "secret file")
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.shield(self._reading)
        except TimeoutError:
            raise TokenError(f"cannot read the HMAC secret file {self._path!r}: it gives no answer") from None
        except OSError as error:
            raise TokenError(f"cannot read the HMAC secret file {self._path!r}: {error}") from None


def read_secret(path: str) -> str:
    """Return the secret in a file; this blocks.

    Raises:
        TokenError: it cannot be read, or is none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SECRET + 1)
        secret = decode(content).strip()
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TokenError(f"cannot read the HMAC secret file {path!r}: {problem}") from None
    if len(content) > MAX_SECRET:
        raise TokenError(f"the HMAC secret file {path!r} has more than {MAX_SECRET} bytes: it is not a key")
    if not secret:
        raise TokenError(f"the HMAC secret file {path!r} is empty: write the key into it")
    return secret
