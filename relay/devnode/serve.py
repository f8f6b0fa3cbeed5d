"""Runs a development node until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from relay.devnode.node import DevNode
from relay.devnode.options import NodeOptions
from relay.errors import InvalidValue

DEFAULT_HUB_PORT = 9443


async def serve(options: NodeOptions, announce: Callable[[DevNode], None]) -> None:
    """Run a node until SIGINT or SIGTERM, then close its sessions cleanly.

    Args:
        options: see `NodeOptions`.
        announce: called once when everything is listening.

    Raises:
        InvalidValue: a port is taken.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        async with DevNode(options) as node:
            announce(node)
            await stop.wait()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def describe(node: DevNode) -> str:
    """Return one line that says where a node listens and which CA file to trust."""
    parts = [f"development node ({node.options.dialect}) at {node.address}"]
    for port in node.public_ports:
        shown = str(port.bound) if port.bound == port.advertised else f"{port.bound} (as {port.advertised})"
        parts.append(f"{port.kind} {shown}")
    if node.options.tls:
        parts.append(f"CA file {node.ca_file}")
    return ", ".join(parts)


def parse_ports(texts: list[str], option: str) -> dict[int, int]:
    """Read ``PORT`` and ``ADVERTISED:PORT`` into ``{advertised: listened}``.

    Raises:
        InvalidValue: not that, or a port advertised twice.
    """
    ports: dict[int, int] = {}
    for text in texts:
        advertised_text, colon, listened_text = text.partition(":")
        advertised = _port(advertised_text, text, option)
        listened = _port(listened_text, text, option) if colon else advertised
        if advertised in ports:
            raise InvalidValue(option, text, "advertises a port twice", "give each public port once")
        ports[advertised] = listened
    return ports


def _port(text: str, whole: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise InvalidValue(
            option, whole, "is no port", "give PORT or ADVERTISED:PORT, each from 1 to 65535, like 443:8443"
        )
    return int(text)
