"""A node without a secret asks the registry: web process, relay and HAProxy as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.db import connections
from django.test import TransactionTestCase

from relay.devnode import DevNode, mint_token
from relay.devnode.certificate import ensure_certificate
from relay.devnode.verifier import is_up
from tenants.models import AuditEntry, Backend, Credential, CredentialKind, NexusNode, PortMapping
from tenants.services.tokens import issue
from tenants.services.tokens.tenant_keys import revoke, rotate, signing_key
from tests.relay.devnode.client import RawClient, raw_client
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ManagedProcess, child_environment
from tests.support.programs import find_haproxy, require
from tests.support.registry import make_served_backend, make_tenant
from tests.support.targets import HttpTarget
from tests.support.users import http_get

SECRET, PROXY = "verifier-secret-" * 3, "proxy-secret-" * 3
HOST = "app.example.com"


async def edit(change: Callable[[], Any]) -> Any:
    """Run a change of the registry in a thread."""

    def work() -> Any:
        try:
            return change()
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


@contextlib.asynccontextmanager
async def process(argv: list[str], ready: Callable[[], object], **environment: str) -> AsyncIterator[ManagedProcess]:
    """Run a process until the block ends; show what it said where that fails."""
    running = ManagedProcess(argv, env=child_environment(**environment))
    try:
        await asyncio.to_thread(running.wait_ready, ready, f"{argv[0]} listens")
        yield running
    except BaseException:
        sys.stderr.write(running.output()[-4000:])
        raise
    finally:
        await asyncio.to_thread(running.stop)


@contextlib.asynccontextmanager
async def registry(**environment: str) -> AsyncIterator[str]:
    """Serve the registry; give its address."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    settings = {"VERIFIER_SECRETS": SECRET, "VERIFIER_PROXY_SECRETS": PROXY, "PUBLIC_URL": address}
    async with process(argv, lambda: is_listening(port), **(settings | environment)):
        yield address


class VerifierTest(TransactionTestCase):
    def make_backend(self) -> Backend:
        backend = make_served_backend(make_tenant(slug="acme"), HOST, name="edge")
        Credential.objects.filter(backend=backend).delete()
        Credential.objects.create(backend=backend, kind=CredentialKind.TENANT_KEY)
        rotate(backend.tenant)
        return backend

    async def open_session(self, node: DevNode, backend: Backend, stack: contextlib.AsyncExitStack) -> RawClient:
        """Open a session as a client that is no relay of ours."""
        client = await stack.enter_async_context(raw_client(node))
        await client.websocket.send(await edit(lambda: issue.attest(backend, {}).token))
        await self.answer(client, backend, "attest")
        return client

    async def answer(self, client: RawClient, backend: Backend, stage: str, **changes: str) -> None:
        """Answer a challenge with a token of the tenant's key."""
        nonce = (await client.challenge())["nonce"]
        environment = {"NEXUS_ATTESTATION_STAGE": stage, "NEXUS_SESSION_NONCE": nonce, **changes}
        await client.websocket.send(await edit(lambda: issue.attest(backend, environment).token))

    async def test_a_revocation_ends_the_session_at_its_next_re_authentication(self) -> None:
        backend = await edit(self.make_backend)
        headers = {"Nexus-Verifier-Secret": SECRET}
        async with registry() as address, contextlib.AsyncExitStack() as stack:
            node = await stack.enter_async_context(
                DevNode(secret="", verifier_url=f"{address}/nexus/verify", verifier_headers=headers)
            )
            client = await self.open_session(node, backend, stack)
            await node.wait_for_sessions(1)
            node.challenge_all()
            await self.answer(client, backend, "reauth")
            await node.wait_until(lambda: node.counters.reauths == 1)

            key = await edit(lambda: signing_key(backend.tenant))
            node.challenge_all()
            nonce = (await client.challenge())["nonce"]
            environment = {"NEXUS_ATTESTATION_STAGE": "reauth", "NEXUS_SESSION_NONCE": nonce}
            issued = await edit(lambda: issue.attest(backend, environment))
            await edit(lambda: revoke(key, "it leaked"))
            await client.websocket.send(issued.token)
            code, reason = await client.closed()
            self.assertEqual(code, 1008)
            self.assertIn(f"key {key.kid} is revoked", reason)
            await node.wait_for_sessions(0)

            # Another tenant's key, for the same name.
            other = await edit(lambda: make_served_backend(make_tenant(slug="other"), "b.example.net", name="own"))
            foreign = await edit(lambda: rotate(other.tenant))
            for names, said in (
                ([HOST], "hostname app.example.com is claimed by no backend of tenant other"),
                (["b.example.net"], ""),
            ):
                async with raw_client(node) as intruder:
                    claims = jwt.decode(mint_token(foreign.secret, names), options={"verify_signature": False})
                    token = jwt.encode(claims, foreign.secret, "HS256", {"kid": foreign.kid})
                    await intruder.websocket.send(token)
                    if said:
                        self.assertEqual(await intruder.closed(), (1008, f"stage0 token validation failed: {said}"))
                    else:
                        self.assertEqual((await intruder.challenge())["type"], "handshake_challenge")
        entries = await edit(lambda: list(AuditEntry.objects.filter(origin="verifier").order_by("pk")))
        self.assertEqual(
            [entry.action.removeprefix("token ") for entry in entries],
            ["accepted"] * 3 + ["refused", "refused", "accepted"],
        )
        self.assertIn("is revoked", entries[3].changes["reason"])

    async def test_an_outage_of_the_registry(self) -> None:
        """Without a secret of its own the node refuses; with one it goes on by that."""
        backend = await edit(self.make_backend)
        token = (await edit(lambda: issue.attest(backend, {}))).token
        key = await edit(lambda: signing_key(backend.tenant))
        url = f"http://127.0.0.1:{free_port()}/nexus/verify"
        async with DevNode(secret="", verifier_url=url) as node, raw_client(node) as client:
            await client.websocket.send(token)
            self.assertEqual(await client.closed(), (1006, ""))
        async with DevNode(secret=key.secret, verifier_url=url) as node, raw_client(node) as client:
            await client.websocket.send(token)
            self.assertEqual((await client.challenge())["type"], "handshake_challenge")

    async def test_the_relay_signs_and_a_rotation_replaces_no_session(self) -> None:
        backend = await edit(self.make_backend)
        headers = {"Nexus-Verifier-Secret": SECRET}
        async with registry() as address, contextlib.AsyncExitStack() as stack:
            target = await stack.enter_async_context(HttpTarget("blue"))
            node = await stack.enter_async_context(
                DevNode(
                    secret="",
                    verifier_url=f"{address}/nexus/verify",
                    verifier_headers=headers,
                    http_ports={443: 0},
                )
            )

            def place() -> None:
                row = backend.nodes.get()
                row.address, row.ca_pem = node.address, node.ca_pem
                row.save()
                mapping = PortMapping.objects.get()
                mapping.default_target = target.address
                mapping.save()
                mapping.host_routes.all().delete()

            await edit(place)
            relay = [sys.executable, "manage.py", "runrelay"]
            async with process(relay, lambda: True, LOG_LEVEL="INFO", LOG_FORMAT="json") as running:
                (up,) = await node.wait_for_sessions(1, timeout=20)
                port = node.public_port("http")
                self.assertEqual((await http_get(port, HOST, "/name")).body, b"blue")
                old = await edit(lambda: signing_key(backend.tenant))
                new = await edit(lambda: rotate(backend.tenant))

                async def challenge() -> None:
                    """Challenge, and wait for the answer: a second challenge meanwhile would make that a wrong one."""
                    before = node.counters.reauths
                    node.challenge_all()
                    await node.wait_until(lambda: node.counters.reauths > before, timeout=20)

                def keys_seen() -> set[str]:
                    found = AuditEntry.objects.filter(origin="verifier", action="token accepted")
                    return {entry.changes["key"] for entry in found}

                async with asyncio.timeout(20):
                    while new.kid not in await edit(keys_seen):
                        await challenge()
                self.assertEqual(node.sessions, (up,), "a rotation replaces no session")
                self.assertEqual((await http_get(port, HOST, "/name")).body, b"blue")
                await edit(lambda: revoke(old))
                await challenge()
                self.assertEqual(node.sessions, (up,))
                await edit(lambda: revoke(new))
                node.challenge_all()
                await node.wait_for_sessions(0, timeout=20)
                self.assertNotIn(new.secret, running.output())

    async def test_the_command_attests(self) -> None:
        await edit(self.make_backend)
        environment = child_environment(NEXUS_ATTESTATION_STAGE="handshake", NEXUS_SESSION_NONCE="")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "manage.py", "mint_token", "acme/edge", "--attest"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(set(json.loads(done.stdout)), {"token", "expiry"})

    async def test_maintenance_puts_a_re_authentication_off(self) -> None:
        def prepare() -> Backend:
            backend = self.make_backend()
            Credential.objects.update(reauth_interval=1, maintenance_grace_cap=3600)
            return backend

        backend = await edit(prepare)
        answers: list[bool] = []
        over = asyncio.Event()
        public = "https://admin.example.com"

        async def counted(options: Any, address: str) -> bool:
            self.assertEqual(address, f"{public}/nexus/status")
            answers.append(await is_up(options, f"{site}/nexus/status"))
            return over.is_set()

        headers = {"Nexus-Verifier-Secret": SECRET}
        maintained = registry(VERIFIER_MAINTENANCE="on", PUBLIC_URL=public)
        async with maintained as site, contextlib.AsyncExitStack() as stack:
            stack.enter_context(self.settings(VERIFIER_SECRETS=[SECRET], PUBLIC_URL="https://another.example.org"))
            stack.enter_context(mock.patch("relay.devnode.session.is_up", counted))
            options = {"verifier_url": f"{site}/nexus/verify", "verifier_headers": headers, "status_retry": 0.02}
            node = await stack.enter_async_context(DevNode(secret="", reauth_jitter=0.0, **options))
            client = await self.open_session(node, backend, stack)
            await node.wait_until(lambda: len(answers) >= 3, timeout=20)
            self.assertEqual((set(answers), node.counters.reauths), ({False}, 0))
            over.set()
            await self.answer(client, backend, "reauth")
            await node.wait_until(lambda: node.counters.reauths == 1)

    async def test_a_node_shows_its_certificate_to_haproxy(self) -> None:
        program = require(find_haproxy(), "haproxy")
        backend = await edit(self.make_backend)
        with tempfile.TemporaryDirectory(prefix="nexusadmin-haproxy-") as name:
            directory = Path(name)
            site = ensure_certificate(directory / "site")
            bundle = bundle_of(directory / "site")
            # Of a CA that nobody at the proxy knows.
            known, unknown = (bundle_of(directory / each) for each in ("known", "unknown"))
            port = free_port()
            async with registry() as address:
                environment = {
                    "VERIFIER_BIND": f"127.0.0.1:{port}",
                    "VERIFIER_SITE_CERTIFICATE": str(bundle),
                    "VERIFIER_NODE_CAS": str(site.ca_file),
                    "VERIFIER_PROXY_SECRET": PROXY,
                    "VERIFIER_SERVER": address.removeprefix("http://"),
                }
                config = str(ROOT / "deploy" / "verifier-haproxy.cfg")
                argv = [str(program), "-db", "-f", config]
                async with process(argv, lambda: is_listening(port), **environment):
                    await edit(lambda: NexusNode.objects.update(name="node-7", client_certificates=digest_of(known)))
                    for certificate, up in ((known, True), (unknown, False), (None, False)):
                        async with (
                            DevNode(
                                secret="",
                                verifier_url=f"https://localhost:{port}/nexus/verify",
                                verifier_ca=site.ca_file,
                                verifier_certificate=certificate,
                                # What a client says itself must not count.
                                verifier_headers={
                                    "Nexus-Client-Certificate": digest_of(known),
                                    "Nexus-Proxy-Secret": PROXY,
                                },
                            ) as node,
                            contextlib.AsyncExitStack() as stack,
                        ):
                            if up:
                                await self.open_session(node, backend, stack)
                                await node.wait_for_sessions(1)
                                continue
                            client = await stack.enter_async_context(raw_client(node))
                            await client.websocket.send(await edit(lambda: issue.attest(backend, {}).token))
                            code, reason = await client.closed()
                            self.assertEqual(code, 1008)
                            self.assertIn("remote verifier rejected token with status 401", reason)

                    def reach(path: str) -> int:
                        context = ssl.create_default_context(cafile=site.ca_file)
                        opener = urllib.request.build_opener(
                            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
                        )
                        try:
                            with opener.open(f"https://localhost:{port}{path}", timeout=10) as answer:
                                return answer.status
                        except urllib.error.HTTPError as error:
                            return error.code

                    self.assertEqual(await asyncio.to_thread(reach, "/nexus/status"), 200)
                    self.assertEqual(await asyncio.to_thread(reach, "/admin/login/"), 404)
        names = await edit(
            lambda: set(AuditEntry.objects.filter(origin="verifier").values_list("actor_name", flat=True))
        )
        self.assertEqual(names, {"node-7"})


def bundle_of(directory: Path) -> Path:
    """Return a file with a certificate and its key, as HAProxy and OpenSSL read it."""
    ensure_certificate(directory)
    bundle = directory / "bundle.pem"
    bundle.write_text((directory / "node.pem").read_text() + (directory / "node-key.pem").read_text())
    os.chmod(bundle, 0o600)
    return bundle


def digest_of(bundle: Path) -> str:
    """Return the certificate's SHA-256 as it is entered."""
    certificate = x509.load_pem_x509_certificate(bundle.read_bytes())
    return certificate.fingerprint(hashes.SHA256()).hex()
