"""What nodes' certificates are checked with: TLS contexts that follow the files they were made of."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

from relay.logs import get_logger
from relay.tasks import in_thread

CHECK_EVERY: Final = 1.0
"""Seconds between two looks at the files of the system's store."""

AGAIN_AFTER_FAILURE: Final = 5.0
"""Seconds after which a certificate that is not trusted lets the system's store be read again, changed or not."""

PATIENCE: Final = 2.0
"""Seconds for a look at the files, where there is an earlier context; a disk that hangs lets that one serve on."""

OWN_CONTEXTS: Final = 256
"""Contexts of nodes with CA certificates of their own that are kept."""

Stamp = tuple[tuple[object, ...], ...]
"""The files of the system's store as they were when they were read."""

_log = get_logger("relay.transport.trust")


class Trust:
    """Contexts that verify nodes: against a node's own CA certificates, else the system's store or ``SSL_CERT_FILE``.

    The store is read in a thread, one at a time, and again where its files have changed and after a certificate
    that was not trusted.
    """

    def __init__(self) -> None:
        self._own: dict[str, ssl.SSLContext] = {}
        self._system: ssl.SSLContext | None = None
        self._stamp: Stamp = ()
        self._from_file = False
        self._check_at = 0.0
        self._read_at = 0.0
        self._reading: asyncio.Future[tuple[Stamp, ssl.SSLContext | None]] | None = None

    async def context(self, ca_pem: str | None) -> ssl.SSLContext:
        """Return the context for nodes with these CA certificates (PEM); empty or None for the system's store.

        Raises:
            ssl.SSLError: ``ca_pem`` holds no certificate.
        """
        if ca_pem:
            known = self._own.get(ca_pem)
            if known is None:
                known = ssl.create_default_context(cadata=ca_pem)
                if len(self._own) >= OWN_CONTEXTS:
                    self._own.clear()
                self._own[ca_pem] = known
            return known
        if self._system is None or asyncio.get_running_loop().time() >= self._check_at:
            if self._reading is None:
                self._begin()
            reading = self._reading
            assert reading is not None
            await asyncio.wait({reading}, timeout=PATIENCE if self._system is not None else None)
            if self._system is None:
                reading.result()  # raises
        assert self._system is not None
        return self._system

    def failed(self, context: ssl.SSLContext) -> None:
        """Take note that a certificate was not trusted by this context."""
        now = asyncio.get_running_loop().time()
        if context is self._system and now >= self._read_at + AGAIN_AFTER_FAILURE:
            self._stamp, self._check_at = (), now

    def _begin(self) -> None:
        """Look at the files in a thread, and read them where they have changed."""
        known, has_one = self._stamp, self._system is not None

        def work() -> tuple[Stamp, ssl.SSLContext | None]:
            stamp = _stamp()
            return stamp, None if stamp == known and has_one else ssl.create_default_context()

        self._reading = in_thread(work, "trust")
        self._reading.add_done_callback(self._read)

    def _read(self, answer: asyncio.Future[tuple[Stamp, ssl.SSLContext | None]]) -> None:
        self._reading = None
        if answer.cancelled() or answer.exception() is not None:
            return
        now = asyncio.get_running_loop().time()
        stamp, context = answer.result()
        self._check_at = now + CHECK_EVERY
        if context is None:
            return
        if self._system is not None and self._from_file and not context.cert_store_stats()["x509"]:
            # Half of a file that is being written, or none: the whole has another stamp. This one is told once.
            _log.warning("the CA certificates have changed and hold none: those from before serve on")
            self._stamp = stamp
            return
        if self._system is not None and self._stamp:
            _log.info("the CA certificates have changed: read again")
        self._system, self._stamp, self._read_at = context, stamp, now
        # Certificates of a directory are read when they are needed: that a store has none says nothing there.
        self._from_file = bool(context.cert_store_stats()["x509"])


def _stamp() -> Stamp:
    """Return what tells whether the files have changed: OpenSSL's own, or what its variables name."""
    paths = ssl.get_default_verify_paths()
    found: list[tuple[object, ...]] = []
    for variable, path in (
        (paths.openssl_cafile_env, paths.openssl_cafile),
        (paths.openssl_capath_env, paths.openssl_capath),
    ):
        path = os.environ.get(variable) or path
        try:
            status = os.stat(path)
        except OSError as error:
            found.append((path, error.errno))
        else:
            found.append((path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
