"""The verifier's addresses, asked as ASGI: who may ask, what comes back, and what is put on record."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any
from unittest import mock

from django.db import OperationalError, connections
from django.test import TransactionTestCase, override_settings

from tenants.models import AuditEntry, PortClaim, Revocation
from tenants.services.tokens.tenant_keys import rotate
from tenants.verifier import recorder, verifier
from tenants.verifier.app import MOST_BODY, VerifierApp
from tests.support.registry import make_node, make_served_backend, make_tenant
from tests.support.waiting import async_wait_until
from tests.tenants.verifier.test_decision import signed

SECRET, NEXT, PROXY = "caller-secret-" * 3, "next-caller-secret-" * 3, "proxy-secret-" * 3
CERTIFICATE = "ab" * 32


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@override_settings(
    VERIFIER_SECRETS=[SECRET, NEXT], VERIFIER_PROXY_SECRETS=[PROXY], SECURE_SSL_REDIRECT=False, PUBLIC_URL=""
)
class AppTestCase(TransactionTestCase):
    def setUp(self) -> None:
        self.tenant = make_tenant(slug="acme")
        self.backend = make_served_backend(self.tenant, "app.example.com", name="edge")
        self.key = rotate(self.tenant)
        node = self.backend.nodes.get()
        node.client_certificates = CERTIFICATE.upper()
        node.name = "node-1"
        node.save()

    def token(self, **claims: Any) -> str:
        body = {"iss": "authorizer", "aud": "nexus", "exp": int(time.time()) + 30, "hostnames": ["app.example.com"]}
        return signed({"alg": "HS256", "kid": self.key.kid}, body | claims, self.key.secret)

    async def ask(
        self,
        app: VerifierApp,
        body: Any = None,
        *,
        path: str = "/nexus/verify",
        method: str = "POST",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        scheme: str = "http",
        address: str = "192.0.2.7",
    ) -> tuple[int, dict[str, Any]]:
        given = {"Nexus-Verifier-Secret": SECRET} if headers is None else headers
        pairs = given.items() if isinstance(given, dict) else given
        raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        chunks = [raw[at : at + 20_000] for at in range(0, len(raw), 20_000)] or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "path": path,
            "method": method,
            "scheme": scheme,
            "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
            "client": (address, 1),
        }
        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"] or b"null")

    def run_app(self, *asks: dict[str, Any], between: Any = None) -> list[tuple[int, dict[str, Any]]]:
        """Ask one application, one question after the other; then close it."""

        async def work() -> list[tuple[int, dict[str, Any]]]:
            app = VerifierApp(inner)
            try:
                answers = []
                for number, each in enumerate(asks):
                    if between is not None and number:
                        await asyncio.to_thread(between)
                    answers.append(await self.ask(app, **each))
                return answers
            finally:
                await app.close()

        return asyncio.run(work())


class AnswerTest(AppTestCase):
    def test_good_and_refused(self) -> None:
        good, refused = self.run_app(
            {"body": {"token": self.token(session_nonce="abc")}},
            {"body": {"token": self.token(hostnames=["b.example.com"])}},
        )
        self.assertEqual(good[0], 200)
        self.assertEqual(good[1]["valid"], True)
        self.assertEqual(good[1]["claims"]["session_nonce"], "abc")
        self.assertEqual(
            refused,
            (
                200,
                {"valid": False, "error": "hostname b.example.com is claimed by no backend of tenant acme"},
            ),
        )
        first, second = AuditEntry.objects.filter(origin="verifier").order_by("pk")
        self.assertEqual((first.action, first.object_text, first.tenant_slug), ("token accepted", "acme/edge", "acme"))
        self.assertEqual((second.action, second.address), ("token refused", "192.0.2.7"))
        self.assertEqual(second.changes["reason"], refused[1]["error"])
        self.assertNotIn(self.token()[-20:], json.dumps(first.changes))

    def test_a_revocation_between_two_questions(self) -> None:
        token = self.token(jti="one")
        answers = self.run_app(
            {"body": {"token": token}},
            {"body": {"token": token}},
            between=lambda: Revocation.objects.create(tenant=self.tenant, token_id="one"),
        )
        self.assertEqual([answer[1]["valid"] for answer in answers], [True, False])

    def test_what_is_no_question(self) -> None:
        answers = self.run_app(
            *({"body": body} for body in (b"", b"{", b"[]", b'{"token": 7}', b'{"token": ""}', b"[" * 30_000, b"\xff")),
            {"body": b" " * (MOST_BODY + 1)},
            {"body": {"token": "x" * 33_000}},
            {"method": "GET"},
            {"path": "/admin/"},
        )
        self.assertEqual([status for status, _ in answers], [400] * 7 + [413, 200, 405, 299])

    def test_a_body_that_does_not_come_is_no_outage(self) -> None:
        async def work() -> tuple[int, dict[str, Any]]:
            app, sent = VerifierApp(inner), []
            stopped = asyncio.Event()

            async def receive() -> dict[str, Any]:
                await stopped.wait()
                return {}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            headers = [(b"nexus-verifier-secret", SECRET.encode())]
            scope = {"type": "http", "path": "/nexus/verify", "method": "POST", "scheme": "http", "headers": headers}
            try:
                await app(scope, receive, send)
            finally:
                await app.close()
            return sent[0]["status"], json.loads(sent[1]["body"])

        with mock.patch("tenants.verifier.app.BODY_TIMEOUT", 0.01), self.assertNoLogs("tenants.verifier"):
            self.assertEqual(
                asyncio.run(work()),
                (408, {"valid": False, "error": "the request did not come whole in 0.01 seconds"}),
            )
        headers = {"Nexus-Verifier-Secret": SECRET, "Content-Length": "9" * 12}
        self.assertEqual(self.run_app({"headers": headers})[0][0], 413)

    def test_an_outage_is_5xx_and_nothing_else_is(self) -> None:
        ask = {"body": {"token": self.token()}}
        with mock.patch("tenants.verifier.cache.Store.refresh", side_effect=OperationalError("gone")):
            with self.assertLogs("tenants.verifier", "WARNING"):
                (answer, status) = self.run_app(ask, {"path": "/nexus/status", "method": "GET"})
        self.assertEqual((answer[0], status[0]), (503, 503))
        with mock.patch("tenants.verifier.decision._Case.decide", side_effect=RuntimeError("never told")):
            with self.assertLogs("tenants.verifier", "ERROR") as logs:
                (answer,) = self.run_app(ask)
        self.assertEqual((answer[0], answer[1]["valid"]), (200, False))
        self.assertNotIn("never told", str(logs.output) + str(answer))

    def test_what_is_not_there_keeps_nobody_waiting(self) -> None:
        self.backend.credential.secret = "own-secret-of-this-backend-alone"
        self.backend.credential.save()
        PortClaim.objects.create(backend=self.backend, transport="tcp", public_port=853)
        now = int(time.time())
        body = {"iss": "authorizer", "aud": "nexus", "exp": now + 30, "tcp_ports": [853], "sub": "edge"}
        ports = signed({"alg": "HS256"}, body, "own-secret-of-this-backend-alone")
        junk = [
            signed({"alg": "HS256"}, body | {"tcp_ports": [1]}, "x"),
            signed({"alg": "HS256"}, body | {"sub": "nobody"}, "x"),
            signed({"alg": "HS256"}, body | {"hostnames": ["nobody.example.org"]}, "x"),
            signed({"alg": "HS256", "kid": "nobodys"}, body, "x"),
            self.token(hostnames=["nobody.example.org"]),
        ]
        proxied = {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": "cd" * 32}

        async def work() -> tuple[list[Any], list[Any]]:
            app = VerifierApp(inner)
            looks, asked = app.verifier._store.refresh, []
            submit = app.verifier._thread.submit

            def noted(function: Any) -> Any:
                if function != looks:
                    asked.append(function)
                return submit(function)

            try:
                known = [await self.ask(app, {"token": token}) for token in (ports, self.token())]
                with (
                    mock.patch.object(app.verifier._thread, "submit", noted),
                    mock.patch.object(verifier, "MOST_READS", 0),
                ):
                    known += [await self.ask(app, {"token": token}) for token in (ports, self.token())]
                    refused = [await self.ask(app, {"token": token}) for token in junk]
                    refused.append(await self.ask(app, {"token": ports}, headers=proxied))
                self.assertEqual(asked, [])
                return known, refused
            finally:
                await app.close()

        known, refused = asyncio.run(work())
        self.assertEqual([answer["valid"] for _, answer in known], [True] * 4)
        self.assertEqual([answer["valid"] for _, answer in refused], [False] * 6)
        self.assertEqual(refused[4][1]["error"], "hostname nobody.example.org is claimed by no backend of tenant acme")
        self.assertEqual(refused[5][0], 401)

    def test_what_is_not_there_is_not_kept(self) -> None:
        async def work() -> int:
            app = VerifierApp(inner)
            try:
                for number in range(5):
                    for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": f"kid-{number}"}):
                        names = {"hostnames": [f"h{number}.example.org"]}
                        await self.ask(app, {"token": signed(header, names, "x")})
                store = app.verifier._store
                return len(store.hosts) + len(store.tenants_by_kid) + len(store.tenants) + len(store.backends)
            finally:
                await app.close()

        self.assertEqual(asyncio.run(work()), 0)

    def test_many_at_once_share_a_look(self) -> None:
        async def work() -> tuple[list[Any], int]:
            app = VerifierApp(inner)
            looks = 0
            refresh = app.verifier._store.refresh

            def counted() -> None:
                nonlocal looks
                looks += 1
                refresh()

            try:
                with mock.patch.object(app.verifier._store, "refresh", counted):
                    body = {"token": self.token()}
                    return await asyncio.gather(*(self.ask(app, body) for _ in range(50))), looks
            finally:
                await app.close()

        answers, looks = asyncio.run(work())
        self.assertTrue(all(answer[1]["valid"] for answer in answers))
        self.assertLessEqual(looks, 2)


class CallerTest(AppTestCase):
    def test_secrets(self) -> None:
        ask = {"body": {"token": self.token()}}
        answers = self.run_app(
            *(
                {**ask, "headers": headers}
                for headers in (
                    {"Nexus-Verifier-Secret": SECRET},
                    {"Nexus-Verifier-Secret": NEXT},
                    {},
                    {"Nexus-Verifier-Secret": SECRET[:-1]},
                    {"Nexus-Verifier-Secret": PROXY},
                    {"Nexus-Proxy-Secret": PROXY},
                    {"Nexus-Client-Certificate": CERTIFICATE},
                    {"Nexus-Proxy-Secret": SECRET, "Nexus-Client-Certificate": CERTIFICATE},
                    {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": CERTIFICATE},
                    {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": ":".join(["AB"] * 32)},
                    {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": "cd" * 32},
                    {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": "ab"},
                    [("Nexus-Verifier-Secret", "x"), ("Nexus-Verifier-Secret", SECRET)],
                    {"Authorization": basic("x", NEXT)},
                    {"Authorization": basic("", SECRET).replace("Basic", "basic")},
                    {"Authorization": basic("x", SECRET), "Nexus-Verifier-Secret": "x"},
                    {"Authorization": basic("x", SECRET[:-1])},
                    {"Authorization": basic(SECRET, "")},
                    {"Authorization": basic("x", PROXY)},
                    {"Authorization": f"Bearer {SECRET}"},
                    {"Authorization": f"Basic x:{SECRET}"},
                )
            )
        )
        self.assertEqual(
            [status for status, _ in answers],
            [200, 200, 401, 401, 401, 401, 401, 401, 200, 200, 401, 401, 401, 200, 200, 200, *[401] * 5],
        )
        self.assertEqual(
            set(AuditEntry.objects.filter(origin="verifier").values_list("actor_name", flat=True)),
            {"a node with the shared secret", "node-1"},
        )

    def test_a_disabled_node(self) -> None:
        self.backend.nodes.update(enabled=False)
        headers = {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": CERTIFICATE}
        ((status, _),) = self.run_app({"body": {"token": self.token()}, "headers": headers})
        self.assertEqual(status, 401)

    def test_refused_callers_are_slowed_down_and_others_are_not(self) -> None:
        wrong = {"headers": {"Nexus-Verifier-Secret": "guess"}, "body": {"token": "x"}}
        with self.assertLogs("tenants.verifier", "WARNING") as logs:
            answers = self.run_app(
                *[wrong] * 30, {"body": {"token": self.token()}}, {**wrong, "address": "198.51.100.1"}
            )
        statuses = [status for status, _ in answers]
        self.assertEqual(statuses, [401] * 20 + [429] * 10 + [200, 401])
        self.assertEqual(len(logs.output), 21)
        self.assertNotIn("guess", str(logs.output))

    def test_it_is_off_without_secrets(self) -> None:
        with override_settings(VERIFIER_SECRETS=[], VERIFIER_PROXY_SECRETS=[]):
            answers = self.run_app({"body": {"token": "x"}}, {"path": "/nexus/status", "method": "GET"})
        self.assertEqual([status for status, _ in answers], [404, 404])

    @override_settings(SECURE_SSL_REDIRECT=True)
    def test_tokens_are_not_for_plain_http(self) -> None:
        ask = {"body": {"token": self.token()}}
        plain, tls = self.run_app(ask, {**ask, "scheme": "https"})
        self.assertEqual((plain[0], tls[0]), (403, 200))

    def test_status(self) -> None:
        ask = {"path": "/nexus/status", "method": "GET", "headers": {}}
        self.assertEqual(self.run_app(ask), [(200, {"status": "ok"})])
        with override_settings(VERIFIER_MAINTENANCE=True):
            self.assertEqual(self.run_app(ask), [(503, {"status": "maintenance"})])


class RecordTest(AppTestCase):
    def test_what_does_not_fit_is_counted(self) -> None:
        with mock.patch.object(recorder, "MOST_WAITING", 3):
            self.run_app(*[{"body": {"token": self.token()}}] * 5)
        self.assertEqual(AuditEntry.objects.filter(action="token accepted").count(), 3)
        self.assertEqual(AuditEntry.objects.get(action=recorder.LOST).changes, {"number": 2})

    def test_junk_does_not_fill_the_trail(self) -> None:
        with mock.patch.object(recorder, "MOST_UNKNOWN_AT_ONCE", 50):
            self.run_app(*[{"body": {"token": "junk"}}] * 80, {"body": {"token": self.token()}})
        written = AuditEntry.objects.filter(action="token refused").count()
        lost = sum(each.changes["number"] for each in AuditEntry.objects.filter(action=recorder.LOST, tenant_key=None))
        self.assertEqual(written + lost, 80)
        self.assertLess(written, 60)
        self.assertEqual(AuditEntry.objects.filter(action="token accepted").count(), 1)

    def test_one_tenant_does_not_fill_the_trail(self) -> None:
        other = make_tenant(slug="other")
        make_served_backend(other, "app.example.net", name="edge")
        key = rotate(other)
        body = {"iss": "authorizer", "aud": "nexus", "exp": int(time.time()) + 30, "hostnames": ["app.example.net"]}
        token = signed({"alg": "HS256", "kid": key.kid}, body, key.secret)
        with mock.patch.object(recorder, "MOST_AT_ONCE", 5), mock.patch.object(recorder, "MOST_STEADILY", 1e-9):
            self.run_app(*[{"body": {"token": self.token()}}] * 20, *[{"body": {"token": token}}] * 3)
        accepted = AuditEntry.objects.filter(action="token accepted")
        self.assertEqual([accepted.filter(tenant_slug=slug).count() for slug in ("acme", "other")], [5, 3])
        # Its owners see how many there were.
        (lost,) = AuditEntry.objects.filter(action=recorder.LOST)
        self.assertEqual((lost.tenant_key, lost.changes), (self.tenant.pk, {"number": 15}))

    def test_what_is_left_out_is_told_now_and_then(self) -> None:
        async def work() -> None:
            app = VerifierApp(inner)
            try:
                for _ in range(2):
                    await self.ask(app, {"token": "junk"})
                await until_lost([1])
                for _ in range(2):
                    await self.ask(app, {"token": "junk"})
                seen = len(looks)
                await async_wait_until(lambda: len(looks) >= seen + 2, "it looks whether there is something to tell")
                self.assertEqual(await asyncio.to_thread(lost), [1])
                with mock.patch.object(recorder, "TELL", 0.0):
                    await until_lost([1, 2])
            finally:
                await app.close()

        async def until_lost(numbers: list[int]) -> None:
            async with asyncio.timeout(20):
                while await asyncio.to_thread(lost) != numbers:
                    await asyncio.sleep(0)

        async def look(writer: recorder.Recorder) -> None:
            looks.append(1)
            await write(writer)

        looks: list[int] = []
        write = recorder.Recorder._write

        def lost() -> list[int]:
            try:
                entries = AuditEntry.objects.filter(action=recorder.LOST).order_by("pk")
                return [entry.changes["number"] for entry in entries]
            finally:
                connections.close_all()

        with (
            mock.patch.object(recorder.Recorder, "_write", look),
            mock.patch.object(recorder, "PAUSE", 0.01),
            mock.patch.object(recorder, "MOST_UNKNOWN_AT_ONCE", 1),
            mock.patch.object(recorder, "MOST_UNKNOWN_STEADILY", 1e-9),
        ):
            asyncio.run(work())

    def test_forged_tokens_are_not_in_the_tenants_trail(self) -> None:
        forged = signed({"alg": "HS256", "kid": self.key.kid}, {"hostnames": ["app.example.com"]}, "x" * 32)
        self.run_app(*[{"body": {"token": forged}}] * 3, {"body": {"token": self.token()}})
        refused = AuditEntry.objects.filter(action="token refused")
        self.assertEqual({(each.tenant_key, each.tenant_slug) for each in refused}, {(None, "")})
        self.assertEqual({each.changes["key"] for each in refused}, {self.key.kid})
        self.assertEqual(AuditEntry.objects.get(action="token accepted").tenant_slug, "acme")

    @override_settings(VERIFIER_RECORDS="refused")
    def test_refused_ones_alone(self) -> None:
        self.run_app({"body": {"token": "junk"}}, {"body": {"token": self.token()}})
        self.assertEqual(
            list(AuditEntry.objects.filter(origin="verifier").values_list("action", flat=True)), ["token refused"]
        )

    def test_nodes_are_told_apart(self) -> None:
        make_node(name="node-2", client_certificates="cd" * 32)
        headers = {"Nexus-Proxy-Secret": PROXY, "Nexus-Client-Certificate": "cd" * 32}
        self.run_app({"body": {"token": self.token()}, "headers": headers})
        self.assertEqual(AuditEntry.objects.get(origin="verifier").actor_name, "node-2")
