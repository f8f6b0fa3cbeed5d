"""Every invariant holds in the database, and says at its field what is wrong before it gets there."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.test import TestCase
from django.utils import timezone

from tenants.changes.base import RegistryModel
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models import (
    Backend,
    BackendHostname,
    BackendNode,
    Change,
    Credential,
    Domain,
    GenerationCounter,
    Hostname,
    HostnameGrant,
    HostRoute,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Site,
    Tenant,
)
from tests.support.registry import make_backend, make_domain, make_served_backend, make_tenant

MODELS = (
    Backend, BackendHostname, BackendNode, Change, Credential, Domain, GenerationCounter, Hostname, HostnameGrant,
    HostRoute, Membership, NexusNode, PortClaim, PortMapping, Site, Tenant,
)  # fmt: skip


class ConstraintTests(TestCase):
    """Every invariant holds in the database, and says in words what is wrong before it gets there."""

    def test_every_constraint_has_a_message_of_its_own(self) -> None:
        for model in MODELS:
            self.assertTrue(model._meta.constraints, model)
            for constraint in model._meta.constraints:
                with self.subTest(constraint.name):
                    self.assertTrue(constraint.name.startswith(model._meta.model_name + "_"))
                    self.assertNotIn("is violated", str(constraint.violation_error_message))

    def assertRefused(self, name: str, row: RegistryModel) -> None:
        """Assert that the database refuses the row, and full_clean says so at the field in the constraint's words."""
        [constraint] = [found for found in row._meta.constraints if found.name == name]
        with self.assertRaises(ValidationError) as caught:
            row.validate_constraints()
        self.assertIn(constraint.message, caught.exception.message_dict[constraint.field])
        with self.assertRaises(IntegrityError), transaction.atomic():
            row.derive()
            row.save_base(raw=True)  # as fixtures do: by none of our own checks

    def test_rows_that_break_one(self) -> None:
        backend = make_served_backend()
        tenant, node, hostname = backend.tenant, backend.nodes.get(), backend.hostnames.get()
        mapping, route = backend.port_mappings.get(), HostRoute.objects.get()
        PortClaim.objects.create(backend=backend, public_port=53)
        make_domain(tenant, "claimed.example.com", None)
        make_domain(tenant, "proved.example.com")
        HostnameGrant.objects.create(tenant=tenant, name="claimed.example.com", grantee_slug="other")
        cases: dict[str, RegistryModel] = {
            "tenant_slug_unique": Tenant(slug=tenant.slug),
            "tenant_slug_not_empty": Tenant(slug=""),
            "site_slug_unique": Site(slug=Site.objects.create(slug="east").slug),
            "site_slug_not_empty": Site(slug=""),
            "nexusnode_name_unique": NexusNode(name=node.name, address="wss://other.example.com"),
            "nexusnode_address_unique": NexusNode(name="other", address=node.address),
            "backend_name_unique_in_tenant": Backend(tenant=tenant, name=backend.name),
            "backend_name_not_empty": Backend(tenant=tenant, name=""),
            "backend_weight_positive": Backend(tenant=tenant, name="w", weight=0),
            "backend_flow_marks_ordered": Backend(tenant=tenant, name="f", flow_low_water=48),
            "backend_health_check_positive": Backend(tenant=tenant, name="h", health_check_pong_timeout=0),
            "backend_outbound_ports_need_outbound": Backend(tenant=tenant, name="o", allowed_outbound_ports=[25]),
            "backendnode_unique": BackendNode(backend=backend, node=node),
            "backendhostname_unique": BackendHostname(backend=backend, hostname=hostname),
            "hostname_name_unique": Hostname(tenant=make_tenant(), name=hostname.name),
            "hostname_name_not_empty": Hostname(tenant=tenant, name=""),
            "domain_tenant_name_unique": Domain(tenant=tenant, name="claimed.example.com"),
            "domain_verified_name_unique": Domain(
                tenant=make_tenant(), name="proved.example.com", verified_by="dns", verified_at=timezone.now()
            ),
            "domain_name_token_not_empty": Domain(tenant=tenant, name="empty.example.com", token=""),
            "domain_verified_by_known": Domain(tenant=tenant, name="by.example.com", verified_by="dns"),
            "hostnamegrant_unique": HostnameGrant(tenant=tenant, name="claimed.example.com", grantee_slug="other"),
            "hostnamegrant_name_grantee_not_empty": HostnameGrant(tenant=tenant, name="x.example.com"),
            "portclaim_unique": PortClaim(backend=backend, public_port=53),
            "portclaim_transport_known": PortClaim(backend=backend, transport="ip", public_port=1),
            "portclaim_port_range": PortClaim(backend=backend, public_port=65536),
            "portclaim_flow_idle_timeout_udp": PortClaim(backend=backend, public_port=54, flow_idle_timeout=5),
            "portmapping_unique": PortMapping(backend=backend, public_port=mapping.public_port),
            "portmapping_transport_known": PortMapping(backend=backend, transport="ip", public_port=1),
            "portmapping_port_range": PortMapping(backend=backend, public_port=0),
            "backend_removal_mode_known": Backend(tenant=tenant, name="r", removal_mode="later"),
            "portmapping_proxy_protocol_known": PortMapping(backend=backend, public_port=1, proxy_protocol="v3"),
            "portmapping_proxy_protocol_udp": PortMapping(
                backend=backend, public_port=1, transport="udp", proxy_protocol="v1"
            ),
            "portmapping_target_order_known": PortMapping(backend=backend, public_port=1, target_order="random"),
            "portmapping_dial_timeout_range": PortMapping(backend=backend, public_port=1, dial_timeout=61),
            "portmapping_target_health_positive": PortMapping(backend=backend, public_port=1, target_health_up_after=0),
            "portmapping_access_mode_known": PortMapping(backend=backend, public_port=1, access_mode="ask"),
            "hostroute_pattern_unique": HostRoute(port_mapping=mapping, pattern=route.pattern, target="localhost:1"),
            "credential_kind_known": Credential(backend=make_backend(), kind="magic"),
            "credential_secret_file_present": Credential(backend=make_backend(), kind="hmac_secret_file"),
            "credential_command_present": Credential(backend=make_backend(), kind="command"),
            "credential_times_positive": Credential(backend=make_backend(), kind="command", command="/x", timeout=0),
        }
        for name, row in cases.items():
            with self.subTest(name):
                self.assertRefused(name, row)

    def test_one_credential_for_a_backend_and_one_counter(self) -> None:
        backend = make_served_backend()
        with self.assertRaises(ValidationError):
            Credential(backend=backend, kind="command", command="/x").full_clean()
        with self.assertRaises(IntegrityError), transaction.atomic():
            GenerationCounter.objects.create(pk=2)

    def test_the_database_itself_refuses_a_credential_without_its_secret(self) -> None:
        make_served_backend()
        with self.assertRaises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_credential SET secret = NULL")


class FieldTests(TestCase):
    def test_a_copy_keeps_the_field_and_a_migration_has_djangos_own(self) -> None:
        for constraint, plain in (
            (FieldUniqueConstraint(fields=["name"], name="u", field="name"), UniqueConstraint),
            (FieldCheckConstraint(condition=~Q(name=""), name="c", field="name"), CheckConstraint),
        ):
            copy = constraint.clone()
            self.assertEqual((type(copy), copy.field, copy.name), (type(constraint), "name", constraint.name))
            path, args, kwargs = constraint.deconstruct()
            self.assertEqual(path, f"django.db.models.{plain.__name__}")
            self.assertNotIn("field", kwargs)
            self.assertEqual(constraint, plain(*args, **kwargs))

    def test_what_a_form_leaves_out_is_not_looked_at(self) -> None:
        Tenant(slug="").validate_constraints(exclude={"slug"})
        with self.assertRaises(ValidationError) as caught:
            Site._meta.constraints[1].validate(Site, Site(slug=""))
        self.assertEqual(caught.exception.message_dict, {"slug": ["A site needs a slug."]})
