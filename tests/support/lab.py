"""A whole installation on a registry: development node and relay, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from django.db import connections

from tests.support.ports import free_port, is_listening
from tests.support.processes import ManagedProcess, child_environment
from tests.support.users import http_get
from tests.support.waiting import async_wait_until

HOST = "app.example.com"
WILDCARD = "*.preview.example.com"
SECRET = "lab-secret-lab-secret-lab-secret-32"
PUBLIC_PORT = 80

T = TypeVar("T")


class Lab:
    """Registry, node and relay of one installation.

    Args:
        secret: what tokens are signed with.
        log_level: of both processes; the relay's must show INFO for `until_up`.

    Attributes:
        http_port: where users connect; the node and the registry know it as port 80.
        relay, node: their processes.
    """

    def __init__(self, dialect: str, secret: str = SECRET, log_level: str = "INFO") -> None:
        self.dialect = dialect
        self.secret = secret
        self._log_level = log_level
        self.directory = Path(tempfile.mkdtemp(prefix="nexusadmin-lab-"))
        self.hub_port, self.http_port = free_port(), free_port()
        self.node: ManagedProcess | None = None
        self.relay: ManagedProcess | None = None

    # -- processes

    def start_node(self) -> None:
        """Start the node, with the ports and the certificate that it had before."""
        secret_file = self.directory / "secret"
        secret_file.write_text(self.secret)
        self.node = _manage(
            "rundevnode",
            *("--dialect", self.dialect, "--hub-port", str(self.hub_port), "--secret-file", str(secret_file)),
            *("--http", f"{PUBLIC_PORT}:{self.http_port}", "--certificate-directory", str(self.directory)),
            LOG_LEVEL=self._log_level,
        )
        self.node.wait_ready(lambda: is_listening(self.http_port), "the development node listens")

    def start_relay(self, *arguments: str) -> None:
        """Start the relay on the registry."""
        self.relay = _manage("runrelay", *arguments, LOG_LEVEL=self._log_level, LOG_FORMAT="json")

    def restart_relay(self) -> None:
        """Stop the relay and start it with its defaults."""
        assert self.relay is not None
        self.relay.stop()
        self.start_relay()

    def stop(self) -> None:
        """End everything and remove what it wrote."""
        for process in (self.relay, self.node):
            if process is not None:
                process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def until_up(self, count: int = 1) -> None:
        """Wait until the relay has logged ``count`` sessions as up."""
        relay = self.relay
        assert relay is not None
        await async_wait_until(
            lambda: relay.output().count('"session up"') + relay.output().count('"session replaced"') >= count,
            "the session is up",
        )

    def memory(self) -> int:
        """Return the relay's resident memory in bytes."""
        return _status(self._relay_pid(), "VmRSS")

    def peak_memory(self) -> int:
        """Return the relay's largest resident memory so far in bytes."""
        return _status(self._relay_pid(), "VmHWM")

    def cpu_seconds(self) -> float:
        """Return the processor time that the relay has used."""
        fields = Path(f"/proc/{self._relay_pid()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Return how many file descriptors the relay holds."""
        return len(os.listdir(f"/proc/{self._relay_pid()}/fd"))

    def _relay_pid(self) -> int:
        assert self.relay is not None
        return self.relay.pid

    # -- registry

    def make_registry(self, target: str) -> None:
        """Save one backend with its node, hostnames, mapping and credential."""
        from tenants.models import OPEN_POLICY, Backend, Credential, Hostname, NexusNode, PortMapping, Tenant

        tenant = Tenant.objects.create(slug="lab", name="lab", **OPEN_POLICY)
        address = f"wss://127.0.0.1:{self.hub_port}/connect"
        node = NexusNode.objects.create(name="dev", address=address, ca_pem=(self.directory / "ca.pem").read_text())
        backend = Backend.objects.create(tenant=tenant, name="lab")
        backend.nodes.add(node)
        for name in (HOST, WILDCARD):
            backend.hostnames.add(Hostname.objects.create(tenant=tenant, name=name))
        PortMapping.objects.create(backend=backend, public_port=PUBLIC_PORT, default_target=target)
        Credential.objects.create(backend=backend, **self.credential([HOST, WILDCARD]))

    def credential(self, hostnames: list[str]) -> dict[str, Any]:
        """Return the fields of a credential that fits the node; a pre-signed token is a new one each time."""
        if self.dialect == "attested":
            return {"kind": "hmac_secret", "secret": self.secret}
        import jwt

        claims = {"hostnames": hostnames, "weight": 1, "iat": int(time.time()), "exp": int(time.time()) + 3600}
        return {"kind": "presigned_token", "secret": jwt.encode(claims, self.secret, algorithm="HS256")}

    async def edit(self, change: Callable[[], T]) -> T:
        """Run a change of the registry in a thread."""

        def work() -> T:
            try:
                return change()
            finally:
                connections.close_all()  # the thread's; nobody else would

        return await asyncio.to_thread(work)

    async def route_to(self, target: str) -> None:
        """Let new streams go to ``target``."""
        await self.edit(lambda: _set_target(target))

    async def name_now(self, host: str = HOST) -> str:
        """Return the name of the target that a new stream gets; empty where the request fails."""
        return (await http_get(self.http_port, host, "/name")).body.decode()


def _set_target(target: str) -> None:
    from tenants.models import PortMapping

    mapping = PortMapping.objects.get()
    mapping.default_target = target
    mapping.save()


@contextlib.asynccontextmanager
async def lab(
    target: str,
    dialect: str = "attested",
    *,
    relay_arguments: Sequence[str] = (),
    secret: str = SECRET,
    log_level: str = "INFO",
) -> AsyncIterator[Lab]:
    """Start everything, with ``target`` as the default of the public port, and end it afterwards."""
    place = Lab(dialect, secret, log_level)
    try:
        await asyncio.to_thread(place.start_node)
        await place.edit(lambda: place.make_registry(target))
        place.start_relay(*relay_arguments)
        await place.until_up()
        yield place
    except BaseException:
        for process in (place.relay, place.node):
            if process is not None:
                sys.stderr.write(process.output()[-4000:])
        raise
    finally:
        await asyncio.to_thread(place.stop)


def _manage(*arguments: str, **environment: str) -> ManagedProcess:
    return ManagedProcess([sys.executable, "manage.py", *arguments], env=child_environment(**environment, **_redis()))


def _redis() -> dict[str, str]:
    return {"REDIS_URL": os.environ["REDIS_URL"]} if "REDIS_URL" in os.environ else {}


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
