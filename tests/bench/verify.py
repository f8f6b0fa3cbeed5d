"""Verifications a second of one web process on one core, on PostgreSQL, asked by another process."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import time
from typing import Any

from tests.bench.edits import percentile
from tests.bench.rig import cpu_seconds, memory
from tests.support.ports import free_port, is_listening
from tests.support.processes import ManagedProcess, child_environment

TENANTS = 200
BACKENDS = 5  # of each tenant
HOSTNAMES = 3  # of each backend
TOKENS = 4_000
CONNECTIONS = 16
SECRET = "bench-verifier-secret-bench-verifier-secret"
EDITS_PER_SECOND = 10


def fill() -> list[str]:
    """Save tenants, keys and backends; return tokens for all of them, each another."""
    from tenants.changes import generations
    from tenants.models import Backend, BackendHostname, Hostname, Tenant, TenantKey
    from tenants.services.tokens.entitlements import entitlements_of

    with generations.batch():
        tenants = Tenant.objects.bulk_create(Tenant(slug=f"tenant-{n}") for n in range(TENANTS))
        keys = TenantKey.objects.bulk_create(TenantKey(tenant=tenant) for tenant in tenants)
        backends = Backend.objects.bulk_create(
            Backend(tenant=tenant, name=f"backend-{n}") for tenant in tenants for n in range(BACKENDS)
        )
        names = Hostname.objects.bulk_create(
            Hostname(tenant=backend.tenant, name=f"h{n}.b{backend.pk}.example.com")
            for backend in backends
            for n in range(HOSTNAMES)
        )
        BackendHostname.objects.bulk_create(
            BackendHostname(backend=backends[at // HOSTNAMES], hostname=name) for at, name in enumerate(names)
        )
    from relay.config import AttestationOptions
    from relay.protocol.events import Stage
    from relay.tokens.mint import mint

    allowed = entitlements_of([backend.pk for backend in backends])
    options = AttestationOptions(token_ttl=3_600, reauth_interval=900)
    tokens = []
    for number in range(TOKENS):
        backend = backends[number % len(backends)]
        key = keys[(number % len(backends)) // BACKENDS]
        claims = allowed[backend.pk].claims()
        nonce = f"{number:043d}"
        tokens.append(mint(str(backend), claims, options, key.secret, stage=Stage.REAUTH, nonce=nonce, key_id=key.kid))
    return tokens


class Load:
    """Asks over kept connections, each question after the answer to the one before."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self.port = port
        head = (
            "POST /nexus/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Nexus-Verifier-Secret: {SECRET}\r\nContent-Length: "
        )
        bodies = (json.dumps({"token": token}) for token in tokens)
        self.requests = [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in bodies]
        self.times: list[float] = []
        self.bad = 0
        self.running = True

    async def one(self, first: int, most: int = sys.maxsize) -> None:
        """Ask until it is over, beginning with one of the tokens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        at = first
        while self.running and most > 0:
            most -= 1
            started = time.monotonic()
            writer.write(self.requests[at % len(self.requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            self.times.append(time.monotonic() - started)
            self.bad += b'"valid": true' not in body
            at += CONNECTIONS
        writer.close()

    async def once(self, pid: int, number: int) -> dict[str, Any]:
        """Ask about so many tokens once each, as after a restart; return the figures."""
        cpu, started = cpu_seconds(pid), time.monotonic()
        whole, self.requests, self.bad = self.requests, self.requests[:number], 0
        self.times, self.running = [], True
        tasks = [asyncio.create_task(self.one(first, number // CONNECTIONS)) for first in range(CONNECTIONS)]
        await asyncio.gather(*tasks)
        self.requests = whole
        took, used = time.monotonic() - started, cpu_seconds(pid) - cpu
        return _figures(self.times, self.bad, took, used)

    async def measure(self, pid: int, seconds: float) -> dict[str, Any]:
        """Ask for some seconds; return the figures."""
        self.times, self.bad, self.running = [], 0, True
        cpu, started = cpu_seconds(pid), time.monotonic()
        tasks = [asyncio.create_task(self.one(number)) for number in range(CONNECTIONS)]
        await asyncio.sleep(seconds)
        self.running = False
        await asyncio.gather(*tasks)
        took, used = time.monotonic() - started, cpu_seconds(pid) - cpu
        return _figures(self.times, self.bad, took, used)


def _figures(times: list[float], bad: int, took: float, used: float) -> dict[str, Any]:
    return {
        "verifications/s": round(len(times) / took),
        "refused or failed": bad,
        "CPU of the process, ms each": round(used / len(times) * 1000, 3),
        "verifications/s that one core's time would give": round(len(times) / used),
        "p50 ms": round(percentile(times, 0.5) * 1000, 1),
        "p99 ms": round(percentile(times, 0.99) * 1000, 1),
    }


async def verify(seconds: float) -> dict[str, Any]:
    """Measure with and without records of good tokens, under edits, and how soon a revocation counts."""
    tokens = await asyncio.to_thread(fill)
    results: dict[str, Any] = {}
    for records in ("all", "refused"):
        port = free_port()
        argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(port)]
        environment = {"VERIFIER_SECRETS": SECRET, "VERIFIER_RECORDS": records, "LOG_LEVEL": "WARNING"}
        web = ManagedProcess([*argv, "--log-level", "warning"], env=child_environment(**environment))
        try:
            await asyncio.to_thread(web.wait_ready, functools.partial(is_listening, port), "uvicorn listens")
            os.sched_setaffinity(web.pid, {min(os.sched_getaffinity(web.pid))})
            load = Load(port, tokens)
            if records == "all":
                results["nothing read yet"] = await load.once(web.pid, TENANTS * BACKENDS)
            else:
                await load.once(web.pid, TENANTS * BACKENDS)
            results[f"{records} on record"] = await load.measure(web.pid, seconds)
            if records == "all":
                editing = asyncio.create_task(asyncio.to_thread(_edit, seconds))
                results[f"with {EDITS_PER_SECOND} edits/s"] = await load.measure(web.pid, seconds)
                await editing
                results["revocation, under load"] = await _revocation(load, tokens)
                results["memory"] = {"MiB": round(memory(web.pid) / 2**20)}
        except BaseException:
            sys.stderr.write(web.output()[-3000:])
            raise
        finally:
            await asyncio.to_thread(web.stop)
    results["on record"] = await asyncio.to_thread(_recorded)
    return results


def _edit(seconds: float) -> None:
    from django.db import connections

    from tenants.models import Backend

    end, number = time.monotonic() + seconds, 0
    keys = list(Backend.objects.values_list("pk", flat=True))
    while time.monotonic() < end:
        backend = Backend.objects.get(pk=keys[number % len(keys)])
        backend.weight += 1
        backend.save()
        number += 1
        time.sleep(1 / EDITS_PER_SECOND)
    connections.close_all()


async def _revocation(load: Load, tokens: list[str]) -> dict[str, Any]:
    """Revoke a token while others are asked about; say how the questions that were asked after the commit went."""
    load.times, load.bad, load.running = [], 0, True
    tasks = [asyncio.create_task(load.one(number)) for number in range(CONNECTIONS)]
    await asyncio.sleep(0.5)
    request = Load(load.port, tokens[:1]).requests[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    await asyncio.to_thread(_revoke, tokens[0])
    revoked = time.monotonic()
    accepted = -1
    answer = b""
    while b"the token is revoked" not in answer:
        accepted += 1
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
    took = time.monotonic() - revoked
    load.running = False
    await asyncio.gather(*tasks)
    writer.close()
    return {"accepted after the commit": accepted, "ms until the refusal": round(took * 1000, 1)}


def _revoke(token: str) -> None:
    import jwt
    from django.db import connections

    from tenants.models import Revocation, TenantKey
    from tenants.services.tokens.issue import token_hash

    kid = jwt.get_unverified_header(token)["kid"]
    Revocation.objects.create(tenant=TenantKey.objects.get(kid=kid).tenant, token_hash=token_hash(token))
    connections.close_all()


def _recorded() -> dict[str, Any]:
    from django.db import connections

    from tenants.models import AuditEntry

    lost = sum(entry.changes["number"] for entry in AuditEntry.objects.filter(action="verifications not recorded"))
    found = {"entries": AuditEntry.objects.filter(origin="verifier").count(), "not recorded for overload": lost}
    connections.close_all()
    return found
