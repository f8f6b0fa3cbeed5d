"""Tests of exporting a tenant's backends, and of what a file cannot say."""

from __future__ import annotations

from django.test import TestCase

from tenants.models import Backend, PortMapping
from tenants.services.config_import.exporter import NotExpressible, export_config
from tenants.services.config_import.tenant import UnknownTenant
from tests.support.registry import make_served_backend, make_tenant


class ExportTests(TestCase):
    def test_no_tenant(self) -> None:
        with self.assertRaises(UnknownTenant):
            export_config()

    def test_only_the_tenant_s_own(self) -> None:
        mine, theirs = make_served_backend(), make_served_backend()
        self.assertEqual([found.name for found in export_config(mine.tenant.slug).document.backends], [mine.name])
        self.assertNotEqual(mine.name, theirs.name)

    def test_disabled_backends_are_left_out(self) -> None:
        off = make_served_backend(enabled=False)
        export = export_config(off.tenant.slug)
        self.assertEqual((export.document.backends, export.left_out), ((), (off.name,)))
        export = export_config(off.tenant.slug, include_disabled=True)
        self.assertEqual((len(export.document.backends), export.left_out), (1, ()))

    def test_what_the_format_can_not_say_is_an_error(self) -> None:
        split = make_served_backend()
        PortMapping.objects.create(backend=split, transport="udp", public_port=443, default_target="localhost:1")
        with self.assertRaisesRegex(NotExpressible, "port 443 is mapped differently for TCP and for UDP"):
            export_config(split.tenant.slug)

    def test_a_secret_that_can_not_be_decrypted(self) -> None:
        lost = make_served_backend()
        with self.settings(FIELD_ENCRYPTION_KEYS=["bm90IHRoZSBrZXkgdGhhdCB3YXMgdXNlZCBiZWZvcmU="]):
            with self.assertRaisesRegex(NotExpressible, "cannot be decrypted: put the key"):
                export_config(lost.tenant.slug, secrets=True)
            self.assertEqual(len(export_config(lost.tenant.slug).document.backends), 1)

    def test_what_keeps_a_file_from_being_read_back_is_a_warning(self) -> None:
        bare = Backend.objects.create(tenant=make_tenant(), name="bare")
        warnings = export_config(bare.tenant.slug).warnings
        self.assertEqual(len(warnings), 4)
        PortMapping.objects.create(backend=bare, transport="udp", public_port=53, default_target="localhost:1")
        self.assertIn("mapped for UDP only", " ".join(export_config(bare.tenant.slug).warnings))
