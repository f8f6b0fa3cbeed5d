"""Sockets that connect: which of several addresses answers first, and a Unix socket whose backlog is full.

Source: RFC 8305 (Happy Eyeballs Version 2), section 5.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from relay.network.names import Address, Names
from relay.timings import Timings

UNANSWERED: Final = 9
"""Questions of TCP's keepalive without an answer, after which a connection is over."""

_PENDING = (errno.EINPROGRESS, errno.EALREADY)


def _begin(address: Address, port: int) -> tuple[socket.socket, bool]:
    """Return a socket that connects or has connected, and whether the answer is still to come.

    Raises:
        OSError: the answer is no. Nothing is left open.
    """
    # A kernel without IPv6 refuses the socket already, and the name may have an IPv4 address too.
    sock = socket.socket(address[0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        code = sock.connect_ex((address[1], port))
        if code == errno.EINPROGRESS:
            # On one machine the handshake is over by now, and asking again tells how it went.
            code = sock.connect_ex((address[1], port))
        if code and code not in _PENDING:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock, code != 0


def _answered(sock: socket.socket) -> asyncio.Future[None]:
    """Return a future that is done when the answer can be read; `loop.remove_writer` is for the caller."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, answer)
    return answer


def _settle(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _result(sock: socket.socket) -> None:
    """Raise what a connecting socket's answer was, where it was no."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def race(
    addresses: Sequence[Address], port: int, stagger: float, deadline: float
) -> tuple[socket.socket, Address]:
    """Connect to the first address that answers: each next one starts when one failed or after ``stagger`` seconds.

    Raises:
        OSError: of the address that failed last; TimeoutError: none answered by ``deadline`` (the loop's time).
    """
    loop = asyncio.get_running_loop()
    attempts: dict[asyncio.Future[None], tuple[socket.socket, Address]] = {}
    problem: OSError | None = None
    try:
        for place, address in enumerate(addresses):
            is_last, failed = place + 1 == len(addresses), False
            try:
                sock, pending = _begin(address, port)
            except OSError as error:
                problem, failed = error, True
            else:
                if not pending:
                    return sock, address
                attempts[_answered(sock)] = (sock, address)
            while attempts and (is_last or not failed):
                left = max(0.0, deadline - loop.time())
                wait = left if is_last else min(stagger, left)
                answers, _ = await asyncio.wait(attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if not answers:
                    if wait == left:
                        raise TimeoutError
                    break
                # Of two that answer in one instant the earlier wins.
                for answer in [answer for answer in attempts if answer in answers]:
                    sock, address = attempts.pop(answer)
                    loop.remove_writer(sock)
                    try:
                        _result(sock)
                    except OSError as error:
                        sock.close()
                        problem, failed = error, True
                    else:
                        return sock, address
        raise problem or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    finally:
        for answer, (sock, _) in attempts.items():
            answer.cancel()
            loop.remove_writer(sock)
            sock.close()


async def open_tcp(
    names: Names,
    host: str,
    port: int,
    deadline: float,
    timings: Timings,
    permitted: Callable[[list[Address]], list[Address]] | None = None,
) -> tuple[socket.socket, Address]:
    """Return a connected, non-blocking socket to a host, and the address that it has.

    A host on this machine answers without a wait for the loop. The next connection starts with the address that
    answered ("localhost" is ::1 and 127.0.0.1).

    Args:
        deadline: of look-up and all addresses together (the loop's time).
        permitted: which of the name's addresses may be tried; raises where none may.

    Raises:
        OSError: see `Names.resolve` and `race`.
        TimeoutError: not by the deadline. Its text says where the name is what got no answer.
    """
    addresses = names.known(host)
    if addresses is None:
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await names.resolve(host)
        except TimeoutError:
            raise TimeoutError(f"the resolver gave no answer for {host} in time") from None
    if permitted is not None:
        addresses = permitted(addresses)
    # Where there are many addresses, each gets its chance within the time.
    stagger = min(timings.stagger, (deadline - asyncio.get_running_loop().time()) / max(1, len(addresses)))
    sock, address = await race(addresses, port, stagger, deadline)
    if address != addresses[0]:
        names.prefer(host, address)
    keep_alive(sock, timings.keepalive)
    return sock, address


def keep_alive(sock: socket.socket, seconds: int) -> None:
    """Let TCP ask after ``seconds`` of silence whether the other side is still there, and give up in the end.

    What it asks also keeps a NAT between the two from forgetting a connection that is idle.

    Args:
        seconds: also between two such questions; 0 for never.
    """
    if seconds:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, UNANSWERED)


async def open_unix(path: str, timeout: float, retry: tuple[float, float]) -> socket.socket:
    """Return a connected, non-blocking Unix socket.

    Args:
        retry: first and longest pause (seconds) between attempts where its backlog is full.

    Raises:
        OSError: it could not be connected within ``timeout`` seconds.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        code = sock.connect_ex(path)
        if code == errno.EAGAIN:
            # Its backlog is full; there is nothing that tells when it no longer is.
            async with asyncio.timeout(timeout):
                pause, longest = retry
                while code == errno.EAGAIN:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, longest)
                    code = sock.connect_ex(path)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
