"""A relay inside a program of your own: no Django, no database, no configuration file.

Run it with the address of a node, the HMAC key that the node checks tokens with in NEXUS_SECRET, and the node's CA
certificate where the system does not know it:

    NEXUS_SECRET=… python docs/examples/embedded_relay.py wss://nexus.example.com/connect [ca.pem]
"""

import asyncio
import os
import sys
from pathlib import Path

from relay import (
    BackendConfig,
    Claims,
    ConnectRequest,
    HmacSecret,
    NodeConfig,
    NoRoute,
    PortRoutes,
    Relay,
    RouteTable,
    Upstream,
    memory_stream,
)

answering: set[asyncio.Task[None]] = set()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: ConnectRequest) -> None:
    """Serve one user inside this process."""
    await reader.readuntil(b"\r\n\r\n")
    body = f"hello {request.client_address}, you asked for {request.hostname}\n".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def connect(request: ConnectRequest) -> Upstream:
    """Decide where a user's connection goes."""
    if request.hostname == "memory.example.com":
        reader, writer, upstream = memory_stream()
        task = asyncio.create_task(answer(reader, writer, request))
        answering.add(task)  # asyncio itself keeps no hold on a task
        task.add_done_callback(answering.discard)
        return upstream
    if request.hostname == "elsewhere.example.com":
        return "localhost:8081"
    raise NoRoute  # the routes of the backend decide


def backend(address: str, secret: str, ca_pem: str | None = None) -> BackendConfig:
    """Describe one backend that serves three hostnames."""
    return BackendConfig(
        key="example",
        name="example",
        nodes=(NodeConfig(address, ca_pem=ca_pem),),
        credential=HmacSecret(secret),
        claims=Claims(hostnames=("memory.example.com", "elsewhere.example.com", "app.example.com")),
        routes=RouteTable.build([PortRoutes("tcp", 80, hosts={"app.example.com": "localhost:8080"})]),
    )


async def main() -> None:
    """Serve until interrupted."""
    address, *ca_file = sys.argv[1:]
    ca_pem = Path(ca_file[0]).read_text() if ca_file else None
    async with Relay([backend(address, os.environ["NEXUS_SECRET"], ca_pem)], connect_handler=connect) as relay:
        await relay.wait_up()
        print("up")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
