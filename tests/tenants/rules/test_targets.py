"""Tests of tenants.rules.targets: every way to write a target, under every tenant's bounds."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from relay.config.target_policy import TargetPolicy
from tenants.models import Backend, Hostname, HostRoute, PortMapping, Tenant
from tenants.rules.targets import count_refused, refusal
from tenants.services.diagnostics import backend_diagnostics
from tests.support.registry import make_backend, make_tenant

REFUSED = (
    "127.0.0.1:80",
    "0.0.0.0:80",
    "[::]:80",
    "[::1]:80",
    "[::ffff:127.0.0.1]:80",
    "[64:ff9b::a9fe:a9fe]:80",
    "[2002:7f00:1::]:80",
    "[fe80::1%eth0]:80",
    "0X7F000001:80",
    "LocalHost.:80",
    "app.localhost:80",
    "169.254.169.254:80",
    "100.100.100.200:80",
    "unix:/run/app.sock",
    "10.0.0.1:80,127.0.0.1:80",
)


class TargetCheckTests(TestCase):
    def setUp(self) -> None:
        self.tenant = Tenant.objects.create(slug="bounded")
        self.backend = make_backend(self.tenant)
        self.mapping = PortMapping.objects.create(backend=self.backend, public_port=80, default_target="10.0.0.1:80")
        self.route = HostRoute.objects.create(port_mapping=self.mapping, pattern="a.example.com", target="app:80")

    def assertRefused(self, write: Any, *args: Any, field: str = "target") -> str:
        with self.assertRaises(ValidationError) as caught:
            write(*args)
        self.assertEqual(list(caught.exception.message_dict), [field])
        self.assertEqual(PortMapping.objects.get(pk=self.mapping.pk).default_target, "10.0.0.1:80")
        self.assertEqual([route.target for route in HostRoute.objects.all()], ["app:80"])
        self.assertEqual(PortMapping.objects.count(), 1)
        return caught.exception.message_dict[field][0]

    def test_a_new_tenant_is_bounded(self) -> None:
        for text in REFUSED:
            with self.subTest(text):
                mapping = PortMapping(backend=self.backend, public_port=81, default_target=text)
                self.assertRefused(mapping.full_clean, field="default_target")
                said = self.assertRefused(mapping.save, field="default_target")
                self.assertRegex(
                    said, r"^The target \S+ is refused: .* choose another target, or have an operator allow"
                )
                route = HostRoute(port_mapping=self.mapping, pattern="b.example.com", target=text)
                self.assertRefused(route.full_clean)
                self.assertRefused(route.save)

    def test_every_way_to_write(self) -> None:
        mapping = PortMapping(backend=self.backend, public_port=81, default_target="localhost:1")
        self.assertRefused(PortMapping.objects.bulk_create, [mapping], field="default_target")
        self.mapping.default_target = "localhost:1"
        self.assertRefused(PortMapping.objects.bulk_update, [self.mapping], ["default_target"], field="default_target")
        self.mapping.refresh_from_db()
        new = HostRoute(port_mapping=self.mapping, pattern="b.example.com", target="localhost:1")
        self.assertRefused(HostRoute.objects.bulk_create, [new])
        self.route.target = "localhost:1"
        self.assertRefused(HostRoute.objects.bulk_update, [self.route], ["target"])
        self.assertRefused(lambda: self.route.save(update_fields=["target"]))
        self.assertRefused(lambda: HostRoute.objects.update(target="localhost:1"))
        self.assertRefused(
            lambda: HostRoute.objects.update_or_create(pk=self.route.pk, defaults={"target": "localhost:1"})
        )
        with self.assertRaises(FieldError):
            HostRoute.objects.update(target=Concat(Value("localhost"), F("target")))
        HostRoute.objects.update(target="app:81")
        self.route.refresh_from_db()
        self.route.target = "app:82"
        HostRoute.objects.bulk_update([self.route], ["target"])
        self.assertEqual(HostRoute.objects.get().target, "app:82")

    def test_what_an_operator_allows(self) -> None:
        self.tenant.target_networks, self.tenant.target_ports = "usual 127.0.0.1", "80,8000-8999"
        self.tenant.save()
        self.assertEqual(self.tenant.target_networks, "usual, 127.0.0.1/32")
        for text in ("127.0.0.1:80", "localhost:8080", "10.0.0.1:80", "app:80"):
            self.mapping.default_target = text
            self.mapping.save()
        for text, said in {
            "127.0.0.2:80": "127.0.0.2 is the relay's own machine",
            "app:81": "port 81 is not among 80, 8000-8999",
            "unix:/run/x": "a Unix socket",
        }.items():
            self.mapping.default_target = text
            with self.assertRaisesRegex(ValidationError, said):
                self.mapping.save()
        self.tenant.target_unix = True
        self.tenant.save()
        self.mapping.save()

    def test_a_policy_that_is_none_is_refused(self) -> None:
        for name, value in (("target_networks", "10.0.0.1/8"), ("target_ports", "http"), ("target_networks", "all")):
            with self.subTest(value), self.assertRaises(ValidationError) as caught:
                Tenant.objects.create(slug="new", **{name: value})
            self.assertEqual(list(caught.exception.message_dict), [name])

    def test_what_is_stored_stays_when_the_policy_is_narrowed(self) -> None:
        Tenant.objects.update(target_networks="0.0.0.0/0, ::/0")
        self.mapping.default_target = "127.0.0.1:80"
        self.mapping.save()
        Tenant.objects.update(target_networks="")
        self.mapping.dial_timeout = 5
        self.mapping.full_clean()
        self.mapping.save()
        PortMapping.objects.bulk_update([self.mapping], ["default_target"])
        self.mapping.default_target = "127.0.0.1:81"
        with self.assertRaises(ValidationError):
            self.mapping.save()
        # Nor can it be taken along to where it never was.
        strict = make_backend(Tenant.objects.create(slug="stranger"))
        self.mapping.refresh_from_db()
        self.mapping.backend = strict
        with self.assertRaises(ValidationError):
            self.mapping.save()

    def test_another_tenants_bounds_do_not_count(self) -> None:
        theirs = PortMapping(backend=make_backend(make_tenant()), public_port=80, default_target="127.0.0.1:80")
        theirs.save()
        mine = PortMapping(backend=self.backend, public_port=81, default_target="127.0.0.1:80")
        with self.assertRaises(ValidationError):
            PortMapping.objects.bulk_create([PortMapping(backend=theirs.backend, public_port=82), mine])

    def test_rows_below_an_unsaved_backend(self) -> None:
        backend = Backend(tenant=self.tenant, name="new")
        mapping = PortMapping(backend=backend, public_port=80, default_target="localhost:80")
        self.assertRefused(mapping.clean, field="default_target")
        self.assertRefused(HostRoute(port_mapping=mapping, pattern="a.example.com", target="[::1]:1").clean)
        for row in (
            PortMapping(default_target="localhost:1"),
            HostRoute(target="localhost:1"),
            PortMapping(backend=Backend(), default_target="localhost:1"),
        ):
            row.clean()  # what they lack is said elsewhere

    def test_queries_do_not_grow_with_the_rows(self) -> None:
        def rows(start: int, number: int) -> list[HostRoute]:
            return [
                HostRoute(port_mapping=self.mapping, pattern=f"x{place}.example.com", target="10.0.0.1:80")
                for place in range(start, start + number)
            ]

        counts = []
        for start, number in ((0, 1), (10, 40)):
            with CaptureQueriesContext(
                connection,
            ) as found:
                HostRoute.objects.bulk_create(rows(start, number))
            counts.append(len(found))
        self.assertEqual(counts[0], counts[1])

    def test_warnings(self) -> None:
        Tenant.objects.update(target_networks="0.0.0.0/0, ::/0")
        HostRoute.objects.update(target="127.0.0.1:1")
        PortMapping.objects.update(default_target="10.0.0.1:80,[::1]:80")
        self.backend.hostnames.add(Hostname.objects.create(tenant=self.tenant, name="a.example.com"))

        def refused() -> list[str]:
            return [text for text in backend_diagnostics(Backend.objects.get()) if "is refused" in text]

        self.assertEqual(refused(), [])
        Tenant.objects.update(target_networks="")
        [text] = refused()
        self.assertRegex(
            text,
            r"^The target \[::1\]:80 is refused: ::1 is .*\. Refused like that: 2 default targets and host routes\.$",
        )
        self.assertEqual(count_refused(TargetPolicy(), Backend.objects.all()), 2)
        self.assertEqual(count_refused(TargetPolicy(("127.0.0.0/8", "10.0.0.0/8")), Backend.objects.all()), 1)
        self.assertEqual(count_refused(TargetPolicy(), Backend.objects.none()), 0)

    def test_a_text_that_is_no_target_is_not_this_services_affair(self) -> None:
        self.assertEqual(refusal("nonsense", TargetPolicy()), "")
        self.assertEqual(refusal("", TargetPolicy()), "")
