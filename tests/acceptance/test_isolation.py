"""Nobody sees what is another tenant's: every page and operation, asked in a world with that tenant and in one without.

Every answer must be the same in both worlds, to the letter: then no name, no count and no error tells that the other
tenant's rows exist. What the walk asks is found by looking (registered admin classes, addresses, fields, filters,
actions), so that a page that is added later is walked too.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest import skipUnless

import time_machine
from django.apps import apps
from django.contrib import admin, messages
from django.db import connection, models, transaction
from django.test import TestCase
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from nexusadmin.accounts.models import LoginSession
from tenants.fields import NormalisedCharField
from tenants.models import Hostname, Role
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import fields_of, make_operator, make_user

FOREIGN = 700_001
"""Primary key of everything that is the other tenant's."""

MISSING = 987_654
CANARY = "zq7canary"
"""Stands in every text of the other tenant; no request of the walk holds it."""

PART = "zq7"
OPERATORS_OWN = {"tenants.NexusNode", "tenants.GenerationCounter", "tenants.Change"}
"""What is no tenant's."""

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


@dataclass(frozen=True)
class Probe:
    """One request."""

    kind: str
    method: str
    address: str
    data: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.method} {self.address} {dict(self.data)}"


@dataclass
class Answers:
    """What came back, by user and probe."""

    texts: dict[tuple[str, Probe], tuple[int, str, str]] = field(default_factory=dict)


def build(model: type[models.Model], /, **given: Any) -> Any:
    """Return an unsaved row of the model that is the other tenant's, with every text a canary."""
    values: dict[str, Any] = {"pk": FOREIGN} | given
    for each in model._meta.concrete_fields:
        if each.primary_key or each.name in values or each.attname in values:
            continue
        if isinstance(each, models.ForeignKey):
            if each.null and each.related_model._meta.label not in ROWS:
                continue
            values[each.attname] = FOREIGN
        elif each.null or (isinstance(each, NormalisedCharField) and each.blank):
            continue  # it takes some texts only
        elif each.choices:
            values[each.name] = each.default if each.has_default() else each.choices[0][0]
        elif isinstance(each, models.CharField | models.TextField) and not each.has_default():
            values[each.name] = f"{CANARY}-{each.name}"[: each.max_length]
        elif isinstance(each, models.DateTimeField):
            values[each.name] = timezone.now()
        elif isinstance(each, models.DateField):
            values[each.name] = timezone.now().date()
        elif isinstance(each, models.IntegerField) and not each.has_default():
            values[each.name] = 1
    return model(**values)


HOSTNAME = f"{CANARY}.example.net"
ROWS: dict[str, dict[str, Any]] = {
    "auth.User": {"username": f"{CANARY}-user", "email": f"{CANARY}@example.net", "is_staff": True},
    "auth.Group": {"name": f"{CANARY}-group"},
    "tenants.Tenant": {"slug": f"{CANARY}-tenant", "name": f"{CANARY} Company"},
    "tenants.Backend": {"name": f"{CANARY}-backend"},
    "tenants.BackendNode": {"node_id": 1},
    "tenants.Hostname": {"name": HOSTNAME},
    "tenants.BackendHostname": {},
    "tenants.PortMapping": {"public_port": 443, "default_target": f"{CANARY}.internal:7443"},
    "tenants.HostRoute": {"pattern": HOSTNAME, "target": f"{CANARY}.internal:9443"},
    "tenants.PortClaim": {"public_port": 5353},
    "tenants.Credential": {"kind": "hmac_secret", "secret": f"{CANARY}-secret-that-is-long-enough"},
    "tenants.Membership": {"role": Role.OWNER},
    "tenants.Invitation": {"email": f"{CANARY}@example.net", "role": Role.OWNER, "accepted_by_id": None},
    "tenants.Domain": {"name": HOSTNAME},
    "tenants.HostnameGrant": {"name": HOSTNAME},
    "tenants.TenantKey": {
        "kid": f"{CANARY}-kid",
        "secret": f"{CANARY}-secret-that-is-long-enough-for-hs256",
        "revoked_because": "",
    },
    "tenants.Revocation": {"token_hash": ""},
    "tenants.Site": {"slug": f"{CANARY}-site"},
    "accounts.LoginSession": {"pk": str(FOREIGN), "browser": f"{CANARY}-browser", "address": "198.51.100.77"},
    "accounts.TotpDevice": {"name": f"{CANARY}-app"},
    "accounts.RecoveryCodes": {"name": f"{CANARY}-codes"},
    "tenants.SiteRole": {"role": "auditor"},
    "tenants.AuditEntry": {
        "tenant_key": FOREIGN,
        "model": "tenants.backend",
        "object_id": str(FOREIGN),
        "changes": {"name": [f"{CANARY}-before", f"{CANARY}-after"]},
    },
    "tenants.ExpiryNotice": {"days": 7},
    "tenants.RelayProcess": {"expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
    "tenants.RelaySession": {"claims": {"hostnames": [HOSTNAME]}},
    "tenants.BackendUsage": {"bytes_sent": 123_456_789},
    "tenants.CredentialUse": {},
}
"""A row of every model that can be a tenant's, in the order in which they can be saved; `build` fills the rest."""


def foreign_models() -> list[type[models.Model]]:
    """Return the models that the walk needs a row of: all that the admin shows and all that is a tenant's."""
    own = (model for app in ("tenants", "accounts") for model in apps.get_app_config(app).get_models())
    found = {model for model in own if not model._meta.auto_created}
    found |= set(admin.site._registry)
    return sorted(
        (model for model in found if model._meta.label not in OPERATORS_OWN), key=lambda model: model._meta.label
    )


def addresses(resolver: URLResolver | None = None, prefix: str = "/") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every address pattern of the site with the converters of its parameters."""
    for each in (resolver or get_resolver()).url_patterns:
        route = prefix + str(each.pattern).lstrip("^").rstrip("$")
        if isinstance(each, URLResolver):
            yield from addresses(each, route)
        elif isinstance(each, URLPattern):
            yield route, dict(each.pattern.converters)


def filled(route: str, key: str) -> str:
    """Return the address with every parameter filled in; numbers and paths with a key."""
    address = re.sub(r"<(?:path|int):\w+>", key, route)
    address = re.sub(r"<(?:str:)?\w+>", key, address)
    address = re.sub(r"\(\?P<\w+>[^)]*\)", key, address)
    return re.sub(r"[\\$^?]", "", address)


@skipUnless(connection.vendor == "sqlite", "sets SQLite's sequences")
class IsolationTest(TestCase):
    """Two worlds, one walk."""

    maxDiff = None

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
        cls.acme = make_tenant(slug="acme")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        cls.node = cls.backend.nodes.get()
        cls.users = {
            "owner": make_user("owner", acme=Role.OWNER),
            "editor": make_user("editor", acme=Role.EDITOR),
            "viewer": make_user("viewer", acme=Role.VIEWER),
            "nobody": make_user("nobody"),
            "anonymous": None,
        }
        cls.operator = make_operator()

    # -- the two worlds

    def set_sequences(self) -> None:
        """Let new rows have the same keys in both worlds."""
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names(cursor):
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, 800000)", [table])

    def add_foreign(self) -> None:
        """Save the other tenant with a row of everything."""
        for label, given in ROWS.items():
            given = {**given, "node_id": self.node.pk} if "node_id" in given else given
            build(apps.get_model(label), **given).save(force_insert=True)

    def foreign_rows(self) -> dict[str, Any]:
        """Return all stored values of the other tenant's rows."""
        return {model._meta.label: list(model._base_manager.filter(pk=FOREIGN).values()) for model in foreign_models()}

    # -- what is asked

    def probes(self) -> Iterator[Probe]:
        yield from self.page_probes()
        yield from self.list_probes()
        yield from self.autocomplete_probes()

    def page_probes(self) -> Iterator[Probe]:
        """Every address, with keys of the other tenant's, of nobody's, and of one's own."""
        seen = set()
        for route, converters in addresses():
            keys = [str(FOREIGN), str(MISSING), str(self.backend.pk)] if converters or "<" in route else [""]
            for key in keys:
                address = filled(route, key)
                if address in seen or "logout" in address:
                    continue
                seen.add(address)
                yield Probe("page", "get", address)
                yield Probe("page", "post", address, (("post", "yes"),))

    def list_probes(self) -> Iterator[Probe]:
        """Every list: searched, filtered by each field and filter, and with each action on the other tenant's row."""
        for model, model_admin in admin.site._registry.items():
            address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            for query in (f"q={PART}", "q=a", "all=", "e=1", "o=1", "o=-2", "p=2"):
                yield Probe("list", "get", f"{address}?{query}")
            names = {each.name for each in model._meta.get_fields()}
            for each in model_admin.list_filter:
                names.add(str(getattr(each, "parameter_name", None) or (each[0] if isinstance(each, tuple) else each)))
            for name in sorted(names):
                for value in (str(FOREIGN), PART):
                    yield Probe("list", "get", f"{address}?{name}={value}")
                for lookup in ("__id__exact", "__exact", "__isnull", "__in"):
                    yield Probe("list", "get", f"{address}?{name}{lookup}={FOREIGN}")
            for action in {"delete_selected", *map(str, model_admin.actions or ())}:
                data = (("action", action), ("_selected_action", str(FOREIGN)), ("index", "0"))
                yield Probe("action", "post", address, data)
                yield Probe("action", "post", address, (*data, ("post", "yes")))
                yield Probe("action", "post", address, (*data, ("select_across", "1")))

    def autocomplete_probes(self) -> Iterator[Probe]:
        """Every foreign key's choices, whether a page offers them or not."""
        address = reverse("admin:autocomplete")
        for model in apps.get_models():
            for each in model._meta.get_fields():
                if isinstance(each, models.ForeignKey | models.ManyToManyField):
                    label = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}"
                    for term in ("", PART):
                        yield Probe("choices", "get", f"{address}?{label}&field_name={each.name}&term={term}")

    def form_probes(self, client: Any) -> Iterator[Probe]:
        """Every form that the user is shown, with the other tenant's key in each field that names a row."""
        for model in admin.site._registry:
            names = [f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}" for action in ("add", "change")]
            own = model._base_manager.exclude(pk=FOREIGN)
            own = own.filter(pk__lt=FOREIGN).order_by("pk").first()
            pages = [reverse(names[0])] + ([reverse(names[1], args=[own.pk])] if own is not None else [])
            for address in pages:
                answer = client.get(address)
                if answer.status_code != 200:
                    continue
                given = fields_of(answer)
                yield Probe("form", "post", address, tuple(sorted(given.items())))
                for name in given:
                    last = name.rpartition("-")[2]
                    if last == "id" or self.names_a_row(model, name, last):
                        changed = {**given, name: str(FOREIGN)}
                        yield Probe("form", "post", address, tuple(sorted(changed.items())))

    def names_a_row(self, model: type[models.Model], name: str, last: str) -> bool:
        """Say whether a form's field names a row by its key."""
        if "__prefix__" in name:
            return False
        return any(
            isinstance(each, models.ForeignKey) and each.name == last
            for candidate in (model, *(relation.related_model for relation in model._meta.related_objects))
            for each in candidate._meta.get_fields()
        )

    # -- asking

    def ask(self, client: Any, probe: Probe) -> tuple[int, str, str]:
        """Return status, where it leads, and text; whatever was written is taken back."""
        with transaction.atomic():
            answer = getattr(client, probe.method)(probe.address, dict(probe.data))
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            # What a redirect has to say would stand on the page that it leads to.
            said = [str(message) for message in messages.get_messages(answer.wsgi_request)]
            client.cookies.pop("messages", None)
            transaction.set_rollback(True)
        text = "\n".join([content.decode(errors="replace"), *said])
        for pattern in VARYING:
            text = pattern.sub("", text)
        return answer.status_code, answer.headers.get("Location", ""), text

    def walk(self) -> Answers:
        """Ask everything as everybody."""
        answers = Answers()
        LoginSession.objects.exclude(pk=str(FOREIGN)).delete()  # of the walk before
        for name, user in self.users.items():
            client = self.client_class(raise_request_exception=False)
            if user is not None:
                client.force_login(user)
            probes = list(self.probes())
            if user is not None:
                with transaction.atomic():
                    probes += self.form_probes(client)
                    transaction.set_rollback(True)
            for probe in probes:
                answers.texts[name, probe] = self.ask(client, probe)
        return answers

    def test_the_walk_has_a_row_of_everything(self) -> None:
        self.assertEqual(
            [model._meta.label for model in foreign_models() if model._meta.label not in ROWS],
            [],
            "give ROWS a row of these, so that the walk can look for it",
        )

    def test_nothing_tells_that_the_other_tenant_exists(self) -> None:
        with time_machine.travel(datetime(2026, 11, 26, 12, tzinfo=UTC), tick=False):
            self.set_sequences()
            without = self.walk()
            self.add_foreign()
            self.set_sequences()
            before = self.foreign_rows()
            self.assertNotIn([], list(before.values()))
            with_them = self.walk()
        self.assertEqual(self.foreign_rows(), before)
        leaks = [
            f"{user}: {probe}\n{told}"
            for (user, probe), answer in with_them.texts.items()
            if (told := self.leak(without.texts.get((user, probe)), answer))
        ]
        self.assertEqual([key for key in without.texts if key not in with_them.texts], [])
        broken = [f"{user}: {probe}" for (user, probe), answer in with_them.texts.items() if answer[0] >= 500]
        self.assertEqual((leaks[:10], broken[:10]), ([], []), f"{len(leaks)} leaks, {len(broken)} errors")
        self.report(with_them)

    def leak(self, without: tuple[int, str, str] | None, answer: tuple[int, str, str]) -> str:
        """Return what an answer tells of the other tenant; empty for nothing."""
        if CANARY in answer[2] or CANARY in answer[1]:
            place = answer[2].find(CANARY)
            return f"names it: …{answer[2][max(0, place - 100) : place + 60]}…"
        if without is None:
            return "asked only in the one world"
        if without[:2] != answer[:2]:
            return f"answers {answer[:2]}, and {without[:2]} without it"
        if without[2] != answer[2]:
            pairs = zip(without[2].splitlines(), answer[2].splitlines(), strict=False)
            return "differs: " + next((f"{old!r} and {new!r}" for old, new in pairs if old != new), "in length")
        return ""

    def report(self, answers: Answers) -> None:
        """Say how much was asked."""
        kinds = Counter(probe.kind for _, probe in answers.texts)
        pages = {probe.address.partition("?")[0] for _, probe in answers.texts}
        said = ", ".join(f"{kinds[kind]} {kind}s" if kind != "choices" else f"{kinds[kind]} choices" for kind in kinds)
        sys.stderr.write(
            f"\nisolation: {len(pages)} addresses, {len({p for _, p in answers.texts})} operations as "
            f"{len(self.users)} users: {len(answers.texts)} probes in two worlds ({said}), 0 leaks\n"
        )


class HostnameErrorTest(TestCase):
    """What may be told: that a name is taken. Never by whom."""

    def test_a_taken_hostname_names_nobody(self) -> None:
        acme, other = make_tenant(slug="acme"), make_tenant(slug=f"{CANARY}-slug", name=f"{CANARY} Company")
        backend = make_served_backend(acme, "app.example.com")
        make_served_backend(other, "taken.example.net", name=f"{CANARY}-backend")
        self.client.force_login(make_user("owner", acme=Role.OWNER))
        address = reverse("admin:tenants_backend_change", args=[backend.pk])
        given = fields_of(self.client.get(address))
        total = int(given["hostname_links-TOTAL_FORMS"])
        given |= {"hostname_links-TOTAL_FORMS": str(total + 1), f"hostname_links-{total}-name": "taken.example.net"}
        answer = self.client.post(address, given)
        self.assertEqual(answer.status_code, 200)
        self.assertContains(answer, "taken.example.net")
        self.assertNotContains(answer, CANARY)
        self.assertEqual(Hostname.objects.filter(tenant=acme).count(), 1)
