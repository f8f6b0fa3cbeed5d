"""A network of its own, whose interfaces a test may change without anything else on the machine noticing (Linux)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000


class NetworkNamespace:
    """A thread in a network namespace of its own: what is called there opens its sockets in that network.

    Such sockets belong to it for ever and can be used by any thread.

    Raises:
        unittest.SkipTest: this process may not make one.
    """

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "namespace")
        try:
            self.call(_leave_network)
        except OSError as error:
            self._thread.shutdown()
            raise unittest.SkipTest(f"no rights to make a network namespace ({error}): run the tests as root") from None
        return self

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there; return its result."""
        return self._thread.submit(function).result()

    def run(self, *argv: str) -> None:
        """Run a program there.

        Raises:
            unittest.SkipTest: there is no such program.
            subprocess.CalledProcessError: it failed.
        """
        try:
            self.call(lambda: subprocess.run(argv, check=True, capture_output=True))
        except FileNotFoundError:
            raise unittest.SkipTest(f"{argv[0]} is not on this machine") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()


def _leave_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
