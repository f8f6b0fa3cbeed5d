"""No secret leaves its place: a whole life of an installation, then a search through all that it left behind.

Every secret of the run is a canary. They come in by all ways that there are (pages, files, commands, settings), rightly
and wrongly, and serve real traffic; pages, logs, mails, messages, dumps, files and command lines are then searched for
each of them in clear text and encoded. What is encrypted in the database is found by looking at the models, so that a
field that is added later must be given a value here.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import logging
import logging.config
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import jwt
import redis
import yaml
from celery import current_app
from cryptography.fernet import Fernet
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client, TransactionTestCase, override_settings
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.log import AdminEmailHandler

from nexusadmin.accounts.models import TotpDevice
from nexusadmin.logs import logging_config
from relay.configfile import ConfigFileError, read_config_file
from tenants import housekeeping
from tenants.bridge.snapshot import load_all
from tenants.changes import generations
from tenants.fields import EncryptedTextField
from tenants.models import (
    Backend,
    Credential,
    CredentialKind,
    ExpiryNotice,
    NexusNode,
    Role,
    Tenant,
    TenantKey,
)
from tests.acceptance.test_live_edits import celery_through, served_by
from tests.support.canaries import MARK, Canaries
from tests.support.celery_worker import CeleryWorker
from tests.support.isolation.probes import addresses, filled
from tests.support.lab import HOST, Lab, lab
from tests.support.ports import free_port
from tests.support.processes import ROOT, child_environment
from tests.support.programs import find_postgres_programs
from tests.support.redis import RedisServer
from tests.support.registry import make_served_backend, make_tenant, migrated_server, postgres_database
from tests.support.targets import HttpTarget
from tests.support.waiting import async_wait_until
from tests.support.web import Visitor, WebAnswer, WebServer
from tests.tenants.admin.pages import errors_of, fields_of, make_operator, make_user, page

ROWS_OF_A_LIST = 2
"""Rows of each model whose pages are opened."""


class NoSecretsTest(TransactionTestCase):
    """One run, many artefacts, one search."""

    maxDiff = None

    def setUp(self) -> None:
        self.canaries = Canaries()
        self.found: list[str] = []
        self.kinds: dict[str, int] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="nexusadmin-secrets-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    # -- what is searched

    def search(self, kind: str, name: str, content: str | bytes) -> None:
        """Search an artefact."""
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.found += self.canaries.hits(f"{kind} {name}", content)

    def search_process(self, name: str, pid: int, output: str) -> None:
        """Search what a process said, and what everybody on the machine sees of it."""
        self.search("log", name, output)
        self.search("command line", name, Path(f"/proc/{pid}/cmdline").read_bytes())

    def command(self, *arguments: Any, refused: bool = False) -> str:
        """Run a command here, search what it prints and how it fails, and return its output."""
        out, error = StringIO(), ""
        try:
            call_command(*map(str, arguments), stdout=out, stderr=out, no_color=True, verbosity=3)
        except CommandError as problem:
            error = "".join(traceback.format_exception(problem)) + repr(problem)
        self.assertEqual(bool(error), refused, f"{arguments}: {out.getvalue()}{error}")
        self.search("command", " ".join(map(str, arguments)), out.getvalue() + error)
        return out.getvalue()

    def child(self, *arguments: str, **variables: str | None) -> str:
        """Run a command as an operator does, with the most that the log tells."""
        environment = child_environment(**{"LOG_LEVEL": "DEBUG", **variables})
        argv = [sys.executable, "manage.py", *arguments, "--traceback"]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        self.search("command", f"{' '.join(arguments)} with {sorted(variables)}", done.stdout + done.stderr)
        return done.stdout + done.stderr

    # -- secrets

    def token(self, name: str, **claims: Any) -> str:
        """Return a token, signed with a secret of its own."""
        key = self.canaries.make(f"key of {name}")
        claims = {"hostnames": [HOST], "iat": int(time.time()), "exp": int(time.time()) + 5 * 86_400, **claims}
        return self.canaries.add(name, jwt.encode(claims, key, algorithm="HS256"))

    # -- the run

    def test_no_secret_is_left_behind(self) -> None:
        started = time.monotonic()
        self.make_secrets()
        with self.logs_of_this_process(), self.redis_server() as url, self.mail_and_hooks():
            self.make_rows()
            with CeleryWorker(url, LOG_LEVEL="DEBUG", **self.settings) as worker, celery_through(url):
                for dialect in ("attested", "token"):
                    asyncio.run(self.serve_traffic(dialect))
                self.edit_in_the_admin()
                self.crash()
                self.visit_servers(url)
                self.read_files()
                self.run_jobs()
                self.search_process("celery worker", worker.pid, worker.output())
            self.search_queue(url)
            self.walk_pages()
            self.run_commands(url)
            self.assert_everything_secret_was_there()
            self.search_objects()
            self.search_database()
        taken = time.monotonic() - started
        kinds = ", ".join(f"{number} × {kind}" for kind, number in sorted(self.kinds.items()))
        sys.stderr.write(
            f"\nsecrets: {len(self.canaries.values)} canaries, {self.canaries.artefacts} artefacts and "
            f"{self.canaries.searched / 1e6:.1f} MB searched in {taken:.0f} s ({kinds}): {len(self.found)} hits\n"
        )
        self.assertEqual(self.found, [])

    def make_secrets(self) -> None:
        make = self.canaries.make
        self.in_use = make("HMAC secret in use")
        self.password = make("operator's password", "&<é")
        self.redis_password = make("password of Redis")
        self.verifier_secret = make("secret of the verifier's callers")
        self.webhook_secret = make("webhook's secret")
        self.webhook_path = make("webhook's address")
        self.settings: dict[str, str | None] = {
            "EMAIL_URL": f"smtp://mailer:{make('password of the mail server')}@127.0.0.1:{free_port()}",
            "VERIFIER_SECRETS": self.verifier_secret,
            "VERIFIER_PROXY_SECRETS": make("proxy's secret at the verifier"),
            "WARNING_WEBHOOK_SECRET": self.webhook_secret,
            "WARNING_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/{self.webhook_path}",
        }
        self.canaries.add("SECRET_KEY", settings.SECRET_KEY)
        for number, key in enumerate(settings.FIELD_ENCRYPTION_KEYS):
            self.canaries.add(f"FIELD_ENCRYPTION_KEYS {number}", key)

    def make_rows(self) -> None:
        self.acme = make_tenant(slug="acme")
        self.backend = make_served_backend(self.acme, "edge.example.com", name="edge")
        self.backend.credential.secret = self.canaries.make("HMAC secret by the model")
        self.backend.credential.save()
        TenantKey.objects.create(tenant=self.acme, secret=self.canaries.make("tenant's key by the model"))
        self.operator = make_operator()
        self.operator.email = "operator@example.com"
        self.operator.set_password(self.password)
        self.operator.save()
        self.users = {
            "operator": self.operator,
            "owner": make_user("owner", acme=Role.OWNER),
            "viewer": make_user("viewer", acme=Role.VIEWER),
            "anonymous": None,
        }
        device = TotpDevice.objects.create(user=make_user("second-factor", acme=Role.VIEWER), name="phone")
        self.canaries.add("secret of an authenticator app", device.secret)
        self.users["owner"].email = "owner@example.com"
        self.users["owner"].save()

    @contextlib.contextmanager
    def logs_of_this_process(self) -> Iterator[None]:
        """Search what this process logs, written in both formats as with LOG_LEVEL=DEBUG."""
        root = logging.getLogger()
        before = (root.level, root.handlers[:])
        kept = {name: (logging.getLogger(name).level) for name in ("django", "django.template")}
        streams = []
        root.setLevel(logging.DEBUG)
        root.handlers.clear()
        for log_format in ("json", "console"):
            given = dict(logging_config(log_format, "DEBUG", access_log=True)["formatters"]["structured"])
            handler = logging.StreamHandler(StringIO())
            handler.setFormatter(given.pop("()")(**given))
            root.addHandler(handler)
            streams.append(handler.stream)
        mails = AdminEmailHandler(include_html=True)
        mails.setLevel(logging.ERROR)
        root.addHandler(mails)
        logging.getLogger("django").setLevel(logging.DEBUG)
        # It tells of every variable that a template lacks, a thousand in a page; the servers' logs hold that too.
        logging.getLogger("django.template").setLevel(logging.INFO)
        try:
            with override_settings(ADMINS=[("operator", "operator@example.com")]):
                yield
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
            for name, level in kept.items():
                logging.getLogger(name).setLevel(level)
        for stream in streams:
            self.assertIn("Internal Server Error", stream.getvalue())
            self.search("log", "this process", stream.getvalue())

    @contextlib.contextmanager
    def redis_server(self) -> Iterator[str]:
        """Start Redis with a password, and search everything that is sent to it."""
        with RedisServer() as server:
            redis.Redis(port=server.port).config_set("requirepass", self.redis_password)
            url = server.url.replace("redis://", f"redis://:{self.redis_password}@")
            listener = socket.create_connection(("127.0.0.1", server.port))
            listener.sendall(f"AUTH {self.redis_password}\r\nMONITOR\r\n".encode())
            heard: list[bytes] = []

            def listen() -> None:
                while data := listener.recv(65_536):
                    heard.append(data)

            thread = threading.Thread(target=listen)
            thread.start()
            try:
                with mock.patch.dict(os.environ, {**self.settings, "REDIS_URL": url}):
                    yield url
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
                listener.close()
            self.assertIn(b"announce_generation", b"".join(heard))
            self.search("Redis", "all commands", b"".join(heard))

    @contextlib.contextmanager
    def mail_and_hooks(self) -> Iterator[None]:
        """Take what the jobs post, and search it; the webhook's address has a secret path, as those of chats have."""
        posted: list[bytes] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(str(self.headers).encode() + self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            address = f"http://127.0.0.1:{server.server_address[1]}/{self.webhook_path}"
            try:
                with override_settings(WARNING_WEBHOOK_URL=address, WARNING_WEBHOOK_SECRET=self.webhook_secret):
                    yield
            finally:
                server.shutdown()
                thread.join()
        self.assertTrue(posted, "the webhook is told of tokens that end")
        self.search("webhook", "all requests", b"\n".join(posted))
        self.assertGreater(len(mail.outbox), 2)
        for number, message in enumerate(mail.outbox):
            parts = [part.get_payload(decode=True) or b"" for part in message.message().walk()]
            self.search(
                "mail", f"{number} {message.subject}", b"\n".join([message.message().as_bytes(), *map(bytes, parts)])
            )

    # -- traffic

    async def serve_traffic(self, dialect: str) -> None:
        """Carry streams with secrets that are edited meanwhile, refused ones and a command's."""
        async with (
            HttpTarget("blue") as blue,
            lab(blue.address, dialect, secret=self.in_use, log_level="DEBUG") as place,
        ):
            await served_by(place, "blue")
            assert place.node is not None and place.relay is not None
            await place.edit(lambda: self.renew(place))
            await self.until_said(place, "session not up", 1)
            if dialect == "attested":
                await place.edit(lambda: self.use_command(place, weight=3, fail=True))
                await self.until_said(place, "failed with exit status 3", 1)
                await place.edit(lambda: self.use_command(place, weight=4, fail=False))
                await self.until_said(place, "session replaced", 1)
            await served_by(place, "blue")
            for name, process in (("node", place.node), ("relay", place.relay)):
                self.search_process(f"{name}, {dialect}", process.pid, process.output())
            for each in self.folder.glob("*.environment"):
                self.search("environment", f"what a command sees, {each.name}", each.read_bytes())
            await place.edit(lambda: Tenant.objects.get(slug="lab").delete())
            await place.edit(lambda: NexusNode.objects.filter(name="dev").delete())

    async def until_said(self, place: Lab, text: str, count: int) -> None:
        """Wait until the relay has said something so often."""
        relay = place.relay
        assert relay is not None
        await async_wait_until(lambda: relay.output().count(text) >= count, f"the relay says: {text}", 60)

    def renew(self, place: Lab) -> None:
        """Replace the credential by one that the node refuses, in a session of its own."""
        credential = Credential.objects.get(backend__name="lab")
        name = f"refused secret, {place.dialect}"
        if place.dialect == "token":
            self.canaries.add("token in use", str(credential.secret))
            credential.secret = self.token(name, weight=2)
        else:
            credential.secret = self.canaries.make(name)
        with generations.batch():
            credential.save()
            Backend.objects.filter(name="lab").update(weight=2)

    def use_command(self, place: Lab, *, weight: int, fail: bool) -> None:
        """Let a command make the tokens, from a secret in its environment, and tell that to everybody."""
        name = f"signer-{fail}"
        signer, seen = self.folder / name, self.folder / f"{name}.environment"
        signer.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys, time, jwt\n"
            "print(os.environ, file=sys.stderr)\n"
            "secret = os.environ.pop('SIGNING_SECRET')\n"
            f"open({str(seen)!r}, 'w').write(str(dict(os.environ)))\n"
            + ("print(secret); sys.exit(3)\n" if fail else "")
            + "claims = {'hostnames': os.environ['NEXUS_HOSTNAMES'].split(','), 'iat': int(time.time())}\n"
            "claims |= {'exp': int(time.time()) + 60, 'iss': 'authorizer', 'aud': ['nexus']}\n"
            "claims['weight'] = int(os.environ['NEXUS_WEIGHT'])\n"
            "nonce = os.environ['NEXUS_SESSION_NONCE']\n"
            "print(jwt.encode(claims | ({'session_nonce': nonce} if nonce else {}), secret, algorithm='HS256'))\n"
        )
        signer.chmod(0o700)
        credential = Credential.objects.get(backend__name="lab")
        credential.kind, credential.command, credential.args = CredentialKind.COMMAND, str(signer), ["--quiet"]
        credential.env = {
            "SIGNING_SECRET": self.canaries.make("environment of a failing command") if fail else self.in_use
        }
        with generations.batch():
            credential.save()
            Backend.objects.filter(name="lab").update(weight=weight)

    # -- pages

    def post_backend(self, client: Any, **changes: Any) -> Any:
        """Post the backend's page with some fields changed, and search the answer."""
        address = page("change", self.backend)
        answer = client.post(address, fields_of(client.get(address)) | changes)
        self.search("page", f"post of {sorted(changes)}: {answer.status_code}", answer.content)
        return answer

    def edit_in_the_admin(self) -> None:
        """Enter secrets of every kind, rightly and wrongly."""
        make = self.canaries.make
        client = Client()
        client.force_login(self.users["owner"])
        saved: list[dict[str, Any]] = [
            {"credential-0-secret": make("HMAC secret by the admin", "&<é")},
            {"credential-0-kind": "presigned_token", "credential-0-secret": self.token("token by the admin")},
            {
                "credential-0-next_secret": self.token("next token by the admin"),
                "credential-0-next_at_0": f"{timezone.now() + timedelta(days=1):%Y-%m-%d}",
                "credential-0-next_at_1": "12:00:00",
            },
        ]
        header, _, rest = self.token("token that was refused").partition(".")
        wrong: list[dict[str, Any]] = [
            {"name": "", "credential-0-secret": make("secret beside another mistake")},
            {"credential-0-secret": f"{header}.{rest}.more"},
            {"credential-0-secret": self.token("token with wrong claims", hostnames=[7], weight="heavy")},
            {"credential-0-next_secret": make("next secret that is no token")},
            {"credential-0-kind": "no such kind", "credential-0-secret": make("secret of no kind")},
        ]
        for changes in saved:
            self.assertEqual(self.post_backend(client, **changes).status_code, 302)
        for changes in wrong:
            answer = self.post_backend(client, **changes)
            self.assertEqual(answer.status_code, 200, changes.keys())
            self.assertTrue(errors_of(answer))
        client.force_login(self.operator)
        self.by_command = make_served_backend(self.acme, "command.example.com", name="by-command")
        address = page("change", self.by_command)
        for env in (f'{{"A": "{make("environment by the admin")}"}}', f'{{"A": {make("environment that is no JSON")}'):
            changes = {
                "credential-0-kind": "command",
                "credential-0-command": "/bin/attest",
                "credential-0-args": "[]",
                "credential-0-env": env,
            }
            answer = client.post(address, fields_of(client.get(address)) | changes)
            self.search("page", f"environment: {answer.status_code}", answer.content)
        self.edit_users(client)

    def edit_users(self, client: Any) -> None:
        """Make a user, change a password, invite somebody."""
        make = self.canaries.make
        password = make("new user's password")
        add, change = reverse("admin:auth_user_add"), reverse("admin:auth_user_password_change", args=[1])
        change = change.replace("/1/", f"/{self.users['viewer'].pk}/")
        for address, first, second in (
            (add, password, password),
            (add, make("mistyped password"), make("mistyped password, again")),
            (change, password, password),
            (change, make("other password"), password),
        ):
            data = {"username": "fresh", "usable_password": "true", "password1": first, "password2": second}
            answer = client.post(address, data)
            self.search("page", f"password: {answer.status_code}", answer.content)
        with override_settings(CELERY_TASK_ALWAYS_EAGER=True), self.celery_in_place():
            answer = client.post(
                reverse("admin:tenants_invitation_add"),
                {"tenant": self.acme.pk, "email": "guest@example.com", "role": "viewer"},
            )
        self.assertEqual(answer.status_code, 302)
        self.invitation = str(mail.outbox.pop().body).partition("/invitations/")[2].split("/")[0]
        self.canaries.add("token of an invitation", self.invitation)

    @contextlib.contextmanager
    def celery_in_place(self) -> Iterator[None]:
        """Run tasks here, so that their mail comes here."""
        before = current_app.conf.task_always_eager
        current_app.conf.task_always_eager = True
        try:
            yield
        finally:
            current_app.conf.task_always_eager = before

    def crash(self) -> None:
        """Let what handles a secret break, with DEBUG on and off."""
        client = Client(raise_request_exception=False)
        client.force_login(self.users["owner"])
        data = fields_of(client.get(page("change", self.backend)))
        for debug in (True, False):
            secret = self.token(f"token in a crash, DEBUG {debug}")
            for broken in ("tenants.models.Credential.save", "tenants.models.credential.read_claims"):
                with override_settings(DEBUG=debug), mock.patch(broken, side_effect=RuntimeError("broken on purpose")):
                    answer = client.post(page("change", self.backend), data | {"credential-0-secret": secret})
                self.assertEqual(answer.status_code, 500)
                self.search("error page", f"{broken}, DEBUG {debug}", answer.content)
            with override_settings(DEBUG=debug, FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
                for address in (page("change", self.backend), page("changelist", self.backend)):
                    answer = client.get(address)
                    self.search("page", f"{address} with another key: {answer.status_code}", answer.content)
                answer = client.post(page("change", self.backend), data | {"credential-0-token_ttl": "44"})
                self.search("page", f"saved with another key: {answer.status_code}", answer.content)

    def visit_servers(self, url: str) -> None:
        """Log in and edit at real servers, with DEBUG on and off, and let them break."""
        for debug in ("on", "off"):
            variables = {
                "DEBUG": debug,
                "LOG_LEVEL": "DEBUG",
                "ACCESS_LOG": "on",
                "ALLOWED_HOSTS": "127.0.0.1",
                "STATIC_ROOT": str(self.folder / "static"),
                "REDIS_URL": url,
            }
            with WebServer(**variables, **self.settings) as server:
                self.visit(server, f"DEBUG {debug}")
                self.search_process(f"web server, DEBUG {debug}", server.pid, server.output())
            self.assertIn("Traceback", server.output())

    def visit(self, server: WebServer, where: str) -> None:
        visitor = Visitor(server)
        mistyped = self.canaries.make(f"mistyped password, {where}")
        answers = [visitor.log_in("operator", mistyped), visitor.get(f"/invitations/{self.invitation}/")]
        entered = visitor.log_in("operator", self.password)
        self.assertEqual(entered.status_code, 302, entered.content)
        address = page("change", self.backend)
        answers += self.ask_verifier(visitor, where)
        given = fields_of(visitor.get(address))
        for name, changes in (
            ("entered", {}),
            ("beside a mistake", {"name": ""}),
        ):
            secret = self.token(f"{name}, {where}")
            answers.append(visitor.post(address, {**given, **changes, "credential-0-secret": secret}))
        self.assertEqual([answer.status_code for answer in answers[-2:]], [302, 200])
        secret = self.token(f"forged, {where}")
        answers.append(visitor.post(address, {**given, "credential-0-secret": secret}, forged=True))
        self.assertEqual(answers[-1].status_code, 403)
        given = fields_of(visitor.get(address))  # the page as it is now: an older one is not saved
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tenants_change RENAME TO out_of_reach")
        try:
            secret = self.token(f"in a crash, {where}")
            answers.append(visitor.post(address, {**given, "credential-0-secret": secret}))
            self.assertEqual(answers[-1].status_code, 500)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE out_of_reach RENAME TO tenants_change")
        for number, answer in enumerate(answers):
            self.search("page", f"{number} of the web server, {where}", answer.content + str(answer.headers).encode())

    def ask_verifier(self, visitor: Visitor, where: str) -> list[WebAnswer]:
        """Let the registry judge tokens, good and bad ones, as a node does."""
        backend = f"{self.acme.slug}/{self.backend.name}"
        minted, out = [], StringIO()
        for name in ("minted token", "minted token, changed"):
            call_command("mint_token", backend, stdout=out)
            minted.append(self.canaries.add(f"{name}, {where}", out.getvalue().split()[-1]))
        tokens = [minted[0], minted[1][:-4] + "AAAA", self.token(f"foreign token, {where}"), "no.token." + minted[0]]
        own = {"Nexus-Verifier-Secret": self.verifier_secret}
        wrong = {"Nexus-Verifier-Secret": self.canaries.make(f"wrong secret of a caller, {where}")}
        answers = [visitor.post_json("/nexus/verify", {"token": token}, own) for token in tokens]
        self.assertIn(b'"valid": true', answers[0].content.replace(b'":', b'": ').replace(b":  ", b": "))
        return [*answers, visitor.post_json("/nexus/verify", {"token": minted[0]}, wrong)]

    def walk_pages(self) -> None:
        """Open every page as everybody."""
        for name, user in self.users.items():
            client = Client(raise_request_exception=False)
            if user is not None:
                client.force_login(user)
            with override_settings(DEBUG=user is self.operator):
                for address in sorted(self.addresses()):
                    answer = client.get(address)
                    self.search("page", f"{address} as {name}", b"".join(answer) + str(answer.headers).encode())

    def addresses(self) -> Iterator[str]:
        """Yield the address of every page of some rows of every model, and every other address of the site."""
        for route, _ in addresses():
            if "logout" not in route:
                yield filled(route, str(self.backend.pk))
        for model in admin.site._registry:
            yield page("changelist", model) + "?all="
            for row in model._base_manager.order_by("-pk")[:ROWS_OF_A_LIST]:
                for action in ("change", "delete", "history"):
                    with contextlib.suppress(NoReverseMatch):
                        yield page(action, row)

    # -- files and commands

    def read_files(self) -> None:
        """Import files, good and broken ones, and see what is said of them."""
        make = self.canaries.make
        base = {"nexusAddresses": ["wss://nexus.example.com/connect"], "portMappings": {443: "localhost:8443"}}
        secret, env = make("HMAC secret of a file"), make("environment of a file", "&<é")
        good = [
            {**base, "name": "f1", "hostname": "f1.example.com", "attestation": {"hmacSecret": secret}},
            {**base, "name": "f2", "hostname": "f2.example.com", "authToken": self.token("token of a file")},
            {
                **base,
                "name": "f3",
                "hostname": "f3.example.com",
                "attestation": {"command": "/bin/attest", "args": ["--quiet"], "env": {"A": env}},
            },
        ]
        path = self.folder / "nexus.yaml"
        for changed in (False, True):
            if changed:
                good[0]["attestation"] = {"hmacSecret": make("HMAC secret of a changed file")}
                good[1]["authToken"] = self.token("token of a changed file")
                good[2]["attestation"] = {"command": "/bin/attest", "env": {"B": make("environment of a changed file")}}
            path.write_text(yaml.safe_dump({"backends": good}, allow_unicode=True))
            self.command("import_config", path, "--tenant", "acme", "--dry-run")
            self.command("import_config", path, "--tenant", "acme")
        self.search("objects", "the document of a file", repr(read_config_file(path)))
        self.child("runrelay", "--config", str(path), "--check")
        self.read_broken_files(base)

    def read_broken_files(self, base: dict[str, Any]) -> None:
        """Import files that have their secrets where something is wrong."""
        make = self.canaries.make
        wrong: list[dict[str, Any]] = [
            {"attestation": {"hmacSecret": [make("HMAC secret in a list")]}},
            {"attestation": {"hmacSecret": {make("HMAC secret as a key"): 1}}},
            {"attestation": {"hmacSecrets": make("HMAC secret under a wrong key")}},
            {"attestation": make("HMAC secret in place of a mapping")},
            {"attestation": {"command": "/bin/attest", "env": [f"A={make('environment as a list')}"]}},
            {"attestation": {"command": "/bin/attest", "env": {make("secret as a name") + "=": "x"}}},
            {"attestation": {"command": "/bin/attest", "env": {"A": [make("environment in a list")]}}},
            {"authToken": make("text that is no token")},
            {"authToken": self.token("token with wrong claims in a file", weight="heavy", tcp_ports=["no"])},
            {"authToken": [self.token("token in a list")]},
            {"authToken": self.token("token beside a secret"), "attestation": {"hmacSecret": make("one too many")}},
        ]
        path = self.folder / "broken.yaml"
        for number, credential in enumerate(wrong):
            row = {**base, "name": f"w{number}", "hostname": f"w{number}.example.com", **credential}
            path.write_text(yaml.safe_dump({"backends": [row]}))
            self.command("import_config", path, "--tenant", "acme", refused=True)
        for name, text in (
            ("an open quote", 'hmacSecret: "{}'),
            ("a tab", "\thmacSecret: {}"),
            ("a colon", "hmacSecret: {}: more"),
            ("an anchor", "hmacSecret: *{}"),
            ("a tag", "hmacSecret: !{} x"),
            ("a control character", "hmacSecret: \x01{}"),
        ):
            secret = make(f"HMAC secret behind {name}")
            path.write_text(f"backends:\n- name: b\n  attestation:\n    {text.format(secret)}\n  weight: 1\n")
            self.command("import_config", path, "--tenant", "acme", refused=True)
            with contextlib.suppress(ConfigFileError):
                read_config_file(path)

    def run_jobs(self) -> None:
        """Run all jobs with everything that they need, and without."""
        for job in housekeeping.JOBS:
            self.search("job", job.name, job.run())
        closed = free_port()
        lost = {"EMAIL_URL": f"smtp://u:{self.canaries.make('password of a lost mail server')}@127.0.0.1:{closed}"}
        ExpiryNotice.objects.all().delete()
        self.child("housekeeping", **{**self.settings, **lost})

    def run_commands(self, url: str) -> None:
        """Write dumps and exports, rotate keys, and use keys and addresses that are wrong."""
        make = self.canaries.make
        for options in ([], ["--include-disabled"]):
            self.command("export_config", "--tenant", "acme", *options)
        self.dump = self.command("dumpdata", "--indent", "1")
        for form in ("xml", "jsonl"):
            self.command("dumpdata", "--format", form)
        self.child("runrelay", "--check", REDIS_URL=url)
        other = self.canaries.add("another encryption key", Fernet.generate_key().decode())
        self.child("runrelay", "--check", FIELD_ENCRYPTION_KEYS=other)
        self.child("export_config", "--tenant", "acme", "--include-secrets", FIELD_ENCRYPTION_KEYS=other)
        self.child("check", FIELD_ENCRYPTION_KEYS=make("no encryption key"))
        password = make("password of the database", "&<")
        lost = f"postgres://nexus:{quote(password, safe='')}@127.0.0.1:{free_port()}/registry"
        self.child("housekeeping", DATABASE_URL=lost)
        self.child("runrelay", "--check", DATABASE_URL=lost)
        self.child("check", DATABASE_URL=f"mysql://nexus:{quote(password, safe='')}@db.example.com/registry")
        self.child("check", REDIS_URL=f"http://:{make('password of no Redis')}@127.0.0.1")
        self.child("check", WARNING_WEBHOOK_URL=f"http://hooks.example.com/{make('address of a wrong webhook')}")
        self.child("check", DEBUG="off", SECRET_KEY=make("key that is too short")[:40], ALLOWED_HOSTS="*")
        newest = self.canaries.add("newest encryption key", Fernet.generate_key().decode())
        keys = ",".join([newest, *settings.FIELD_ENCRYPTION_KEYS])
        self.child("rotate_keys", FIELD_ENCRYPTION_KEYS=keys)
        self.child("rotate_keys", "--check", FIELD_ENCRYPTION_KEYS=other)
        self.child("rotate_keys", FIELD_ENCRYPTION_KEYS=",".join([*settings.FIELD_ENCRYPTION_KEYS, newest]))

    # -- what is left

    def assert_everything_secret_was_there(self) -> None:
        """Fail where the models can hold a secret that this run did not store."""
        lacking = [
            each.where
            for model in apps.get_models()
            for each in model._meta.local_concrete_fields
            if isinstance(each, EncryptedTextField)
            and not any(MARK in str(text) or text in self.canaries.values.values() for text in self.stored(each))
        ]
        self.assertEqual(lacking, [], "give these encrypted fields a canary (make_rows), so that it can be looked for")

    def stored(self, each: EncryptedTextField) -> list[Any]:
        """Return what a field holds in all rows, in clear text."""
        rows = each.model._base_manager.filter(**{f"{each.attname}__isnull": False})
        return [getattr(row, each.attname) for row in rows]

    def search_queue(self, url: str) -> None:
        """Search what waits in Redis for a worker."""
        with celery_through(url):
            credential = Credential.objects.get(backend=self.backend)
            credential.policy_version = "queued"
            credential.save()
        client = redis.Redis.from_url(url)
        keys = list(client.scan_iter())
        self.assertIn(b"nexusadmin", keys)
        for key in keys:
            self.search("Redis", key.decode(), key + (client.dump(key) or b""))
        client.close()

    def search_objects(self) -> None:
        """Search what objects say of themselves, and how they are taken for text."""
        config = load_all()
        self.assertTrue(config.backends)
        self.search("objects", "the relay's configuration", f"{config!r} {config}")
        for model in apps.get_models():
            for row in model._base_manager.all():
                self.search("objects", model._meta.label, f"{row!r} {row}")

    def search_database(self) -> None:
        """Search the database as it lies on disk and as it is dumped; what is dumped also in PostgreSQL."""
        self.search_tables("default")
        if connection.vendor == "sqlite":
            path = Path(connection.settings_dict["NAME"])
            for each in path.parent.glob(f"{path.name}*"):
                self.search("file", each.name, each.read_bytes())
            with contextlib.closing(sqlite3.connect(path)) as plain:
                self.search("dump", "SQLite", "\n".join(plain.iterdump()))
        if find_postgres_programs() is None:
            return
        fixture = self.folder / "dump.json"
        # The trail only grows, and loading would replace what it holds; its rows were searched as they are.
        left_out = ["contenttypes", "auth.permission", "tenants.auditentry"]
        call_command("dumpdata", exclude=left_out, output=str(fixture), verbosity=0)
        with migrated_server() as server, postgres_database(server) as alias:
            with self.also(alias):
                call_command("loaddata", fixture, database=alias, verbosity=0)
                self.search_tables(alias)
            server.halt()
            # Most files are a database's copies of its template's: whatever is the same is searched once.
            contents = {each.read_bytes(): each.name for each in server.directory.rglob("*") if each.is_file()}
            for content, name in contents.items():
                self.search("file", f"PostgreSQL's {name}", content)

    @contextlib.contextmanager
    def also(self, alias: str) -> Iterator[None]:
        """Let this test use another database."""
        with mock.patch.object(type(self), "databases", {"default", alias}):
            yield

    def search_tables(self, alias: str) -> None:
        """Search every value of every table."""
        with connections[alias].cursor() as cursor:
            for table in connections[alias].introspection.table_names(cursor):
                cursor.execute(f"SELECT * FROM {connections[alias].ops.quote_name(table)}")
                self.search("table", f"{table} in {connections[alias].vendor}", str(cursor.fetchall()))
