"""Ask everything as some users, in a world without the other tenant and in one with it, and compare the answers."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import time_machine
from django.contrib import messages
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.test import Client, TestCase
from django.urls import reverse

from nexusadmin.accounts.models import LoginSession
from tenants.models import Backend, Role, Tenant
from tests.support.isolation.probes import Probe, address_of, filter_probes, form_probes, probes
from tests.support.isolation.reads import Reads, Statement
from tests.support.isolation.rows import OTHERS, OURS, count_from, shown_models
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import make_user

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)

NEXT = 800_001
"""Key of the rows that a probe saves, in both worlds."""

LISTS = {"owner": 13, "editor": 8, "viewer": 8}
"""In how many of the admin's lists a user sees own rows, at least."""

VARYING = [
    re.compile(pattern)
    for pattern in (
        r'name="csrfmiddlewaretoken" value="[^"]*"',
        r'"X-CSRFToken": "[^"]*"',
        r'nonce="[^"]*"',
        r'name="end" value="[^"]*"',  # keys of one's own sessions
        r"__utma=[^;]*",
        r"(?<=>key )[\w-]{16}(?=</a>)",  # a new key's id is random
    )
]
"""What differs between two answers to one question."""


class Answer(NamedTuple):
    """Status, where it leads, and text."""

    status: int
    location: str
    text: str


Asked = dict[tuple[str, Probe], Answer]
"""Answers by user and probe."""


class LeanClient(Client):
    """Django's test client, without its copies of every template's context.

    It keeps no cookies but those that it was given, so that no probe can log it out for those that follow.
    """

    def request(self, **request: Any) -> Any:
        """Return the answer; a view's exception is an answer of 500."""
        return self.handler(self._base_environ(**request))  # type: ignore[attr-defined]


@dataclass
class Outcome:
    """What a walk found.

    Attributes:
        answers: of the world with the other tenant.
        leaks: what tells that it is there.
        again: how many probes were asked in both worlds; for the others the database says the same in both.
    """

    answers: Asked
    leaks: list[str]
    again: int


class WalkTestCase(TestCase):
    """A tenant with a row of everything and its users."""

    maxDiff = None
    acme: Tenant
    backend: Backend
    users: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for name in ("django.request", "django.security", "tenants", "axes"):  # refusals are what is asked for
            log = logging.getLogger(name)
            level = log.level
            log.setLevel(logging.CRITICAL)
            cls.addClassCleanup(log.setLevel, level)

    @classmethod
    def setUpTestData(cls) -> None:
        count_from(OURS.key)
        cls.acme = make_tenant(slug="acme")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        OURS.save(node=cls.backend.nodes.get().pk)
        cls.users = {
            "owner": make_user("owner", acme=Role.OWNER),
            "editor": make_user("editor", acme=Role.EDITOR),
            "viewer": make_user("viewer", acme=Role.VIEWER),
            "nobody": make_user("nobody"),
            "anonymous": None,
        }

    def clients(self, names: Iterable[str]) -> dict[str, LeanClient]:
        """Return a client for each name, logged in if it is a user's."""
        found = {name: LeanClient(raise_request_exception=False) for name in names}
        for name, client in found.items():
            if self.users[name] is not None:
                client.force_login(self.users[name])
        return found

    def ask(self, client: LeanClient, probe: Probe) -> Answer:
        """Return the answer; whatever was written is taken back."""
        with transaction.atomic():
            answer = getattr(client, probe.method)(probe.address, dict(probe.data))
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            # What a redirect has to say would stand on the page that it leads to.
            said = [str(message) for message in messages.get_messages(answer.wsgi_request)]
            transaction.set_rollback(True)
        text = "\n".join([content.decode(errors="replace"), *said])
        for pattern in VARYING:
            text = pattern.sub("", text)
        return Answer(answer.status_code, answer.headers.get("Location", ""), text)

    def walk(self, names: Iterable[str], chosen: Callable[[str, LeanClient], Iterable[Probe]]) -> Outcome:
        """Ask the chosen probes as these users in both worlds.

        Raises:
            AssertionError: the other tenant has no row of some model, or one of its rows was changed.
        """
        with time_machine.travel(NOON, tick=False), transaction.atomic():
            without, answers, again = self._walk(self.clients(names), chosen)
            transaction.set_rollback(True)
        told = {key: leak(without[key], answer) for key, answer in answers.items()}
        leaks = [f"{name}: {probe}\n{told[name, probe]}" for name, probe in answers if told[name, probe]]
        return Outcome(answers, leaks, again)

    def _walk(
        self, clients: dict[str, LeanClient], chosen: Callable[[str, LeanClient], Iterable[Probe]]
    ) -> tuple[Asked, Asked, int]:
        """Return the answers without and with the other tenant, and how many probes were asked in both worlds."""
        self.assertFalse(any(OTHERS.stored().values()), "the other tenant is in both worlds")
        reads = Reads()
        without: Asked = {}
        count_from(NEXT)
        for name, client in clients.items():
            with transaction.atomic():
                asked = list(chosen(name, client))
                transaction.set_rollback(True)
            for probe in asked:
                with reads.record((name, probe)):
                    without[name, probe] = self.ask(client, probe)
        OTHERS.save(node=self.backend.nodes.get().pk)
        count_from(NEXT)
        stored = OTHERS.stored()
        self.assertNotIn([], list(stored.values()))
        answers, again = {}, 0
        for (name, probe), answer in without.items():
            if not reads.same((name, probe)):
                again += 1
                answer = self.ask(clients[name], probe)
            answers[name, probe] = answer
        self.assertEqual(OTHERS.stored(), stored)
        return without, answers, again

    def everything(self, name: str, client: LeanClient) -> Iterable[Probe]:
        """Return all probes of a user; filtered lists as the owner only, where the user's come out the same way."""
        yield from probes()
        yield from filter_probes(set(shown_models()) - self.alike(name))
        yield from form_probes(client)

    def alike(self, name: str) -> set[type[models.Model]]:
        """Return the models whose list asks the database the same for an editor or a viewer as for an owner."""
        if name not in ("editor", "viewer"):
            return set()
        reads = {who: Reads() for who in ("owner", name)}
        clients = self.clients(reads)
        for who, client in clients.items():
            for model in shown_models():
                with reads[who].record(model):
                    self.ask(client, list_of(model))
        lists = {who: {model: self.statements(who, reads[who].of(model)) for model in shown_models()} for who in reads}
        return {model for model in shown_models() if lists[name][model] == lists["owner"][model]}

    def statements(self, name: str, statements: Iterable[Statement]) -> set[Statement]:
        """Return statements with "me" for the user's key, without those on log-in sessions."""
        me = re.compile(rf"\b{self.users[name].pk}\b")
        return {
            (sql, me.sub("me", params))
            for sql, params in statements
            if not any(f'FROM "{model._meta.db_table}"' in sql for model in (Session, LoginSession))
        }

    def check(self, *names: str) -> None:
        """Ask everything as these users; fail for leaks, errors, and users who do not see what is their own."""
        found = self.walk(names, self.everything)
        for name in names:
            self.check_sees_its_own(name, found.answers)
        broken = [f"{name}: {probe}" for (name, probe), answer in found.answers.items() if answer.status >= 500]
        told = f"{len(found.leaks)} leaks, {len(broken)} errors"
        self.assertEqual((found.leaks[:10], broken[:10]), ([], []), told)
        report(names, found)

    def check_sees_its_own(self, name: str, answers: Asked) -> None:
        """Fail unless the user's lists show what they should: a walk of somebody who sees nothing proves nothing."""
        lists = {model._meta.label: answers[name, list_of(model)] for model in shown_models()}
        opened = [label for label, answer in lists.items() if answer.status == 200]
        shown = [label for label, answer in lists.items() if str(OURS.key) in answer.text]
        self.assertEqual(shown, opened, f"{name} may open lists and does not see own rows there")
        self.assertGreaterEqual(len(shown), LISTS.get(name, 0), f"{name} sees own rows only in {shown}")
        home = answers[name, Probe("page", "get", reverse("admin:index"))]
        self.assertEqual(home.status, 302 if name == "anonymous" else 200, f"{name} may log in")


def list_of(model: type[models.Model]) -> Probe:
    """Return the probe of a model's whole list."""
    return Probe("page", "get", address_of(model, "changelist"))


def leak(without: Answer, answer: Answer) -> str:
    """Return what an answer tells of the other tenant; empty for nothing."""
    for text in (answer.text, answer.location):
        if (place := text.find(OTHERS.mark)) >= 0:
            return f"names it: …{text[max(0, place - 100) : place + 60]}…"
    if without[:2] != answer[:2]:
        return f"answers {answer[:2]}, and {without[:2]} without it"
    if without.text != answer.text:
        pairs = zip(without.text.splitlines(), answer.text.splitlines(), strict=False)
        return "differs: " + next((f"{old!r} and {new!r}" for old, new in pairs if old != new), "in length")
    return ""


def report(names: Iterable[str], found: Outcome) -> None:
    """Say how much was asked."""
    kinds = Counter(probe.kind for _, probe in found.answers)
    pages = {probe.address.partition("?")[0] for _, probe in found.answers}
    said = ", ".join(f"{count} {kind if kind == 'choices' else kind + 's'}" for kind, count in kinds.items())
    sys.stderr.write(
        f"\nisolation: {' and '.join(names)}: {len(pages)} addresses, {len(found.answers)} probes in two worlds "
        f"({said}); {found.again} asked in both, 0 leaks\n"
    )
