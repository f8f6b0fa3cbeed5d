"""Rows are stored in their normal form, and what has none is refused."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.test import TestCase, override_settings

from tenants.changes.base import RegistryModel
from tenants.models import (
    Backend,
    Credential,
    Hostname,
    HostRoute,
    NexusNode,
    PortMapping,
)
from tests.support.registry import make_backend, make_node, make_tenant


class NormalFormTests(TestCase):
    def test_saving_stores_the_normal_form(self) -> None:
        tenant, backend = make_tenant(), make_backend()
        hostname = Hostname.objects.create(tenant=tenant, name="  Bücher.Example.com. ")
        self.assertEqual(hostname.name, "xn--bcher-kva.example.com")
        node = make_node(address="WSS://Nexus.Example.com:443")
        self.assertEqual(node.address, "wss://nexus.example.com/connect")
        mapping = PortMapping.objects.create(backend=backend, public_port=443, default_target="[::0:1]:80")
        self.assertEqual(mapping.default_target, "[::1]:80")
        route = HostRoute.objects.create(port_mapping=mapping, pattern="*.A.example.com", target="LOCALHOST:1")
        self.assertEqual((route.pattern, route.target), ("*.a.example.com", "localhost:1"))

    def test_lists_of_targets_and_networks_have_one_form(self) -> None:
        mapping = PortMapping.objects.create(
            backend=make_backend(),
            public_port=443,
            default_target="B.example:1, unix:///run/a.sock",
            access_allow="192.0.2.7,2001:DB8:0::/32  192.0.2.7/32",
        )
        self.assertEqual(mapping.default_target, "b.example:1,unix:/run/a.sock")
        self.assertEqual(mapping.access_allow, "192.0.2.7/32, 2001:db8::/32")
        for name, value, words in (
            ("default_target", "a.example:1,a.example:1", "stands twice"),
            ("access_deny", "192.0.2.1/24", "write 192.0.2.0/24"),
            ("access_deny", "elsewhere", "neither an address nor a network"),
        ):
            with self.assertRaises(ValidationError) as caught:
                PortMapping(backend=mapping.backend, public_port=1, **{name: value}).full_clean()
            self.assertIn(words, str(caught.exception))

    def test_two_spellings_of_one_name_are_one_hostname(self) -> None:
        Hostname.objects.create(tenant=make_tenant(), name="app.example.com")
        with self.assertRaises(ValidationError) as caught:
            Hostname(tenant=make_tenant(), name="APP.example.com.").full_clean()
        self.assertIn("taken", str(caught.exception))

    def test_what_has_no_normal_form_is_refused_with_the_value_and_the_remedy(self) -> None:
        tenant, backend = make_tenant(), make_backend()
        mapping = PortMapping.objects.create(backend=backend, public_port=443)
        builders: list[tuple[str, Callable[[str], RegistryModel], tuple[str, ...]]] = [
            (
                "name",
                lambda text: Hostname(tenant=tenant, name=text),
                ("a b", "*.com", "tcp:53", "x" * 64 + ".com", ""),
            ),
            (
                "address",
                lambda text: NexusNode(name="n", address=text),
                ("https://x", "ws://x.example.com", "wss://u:p@x"),
            ),
            (
                "target",
                lambda text: HostRoute(port_mapping=mapping, pattern="a.example.com", target=text),
                ("localhost", "localhost:0", "http://x:1", "unix:relative", ""),
            ),
        ]
        for field, build, texts in builders:
            for text in texts:
                with self.subTest(field=field, text=text):
                    with self.assertRaises(ValidationError) as caught:
                        build(text).full_clean()
                    self.assertIn(field, caught.exception.message_dict)
                    with self.assertRaises(ValidationError):
                        build(text).save()

    def test_insecure_nodes_need_the_setting(self) -> None:
        make_node(address="ws://127.0.0.1:9000/connect")
        with override_settings(ALLOW_INSECURE_NODES=True):
            make_node(address="ws://nexus.example.com/connect")

    def test_lists_environments_and_certificates_are_checked(self) -> None:
        backend = make_backend()
        bad: list[tuple[str, RegistryModel]] = [
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[0])),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports={"25": 1})),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[25, 25])),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[True])),
            ("site", Backend(tenant=backend.tenant, name="p", site="two words")),
            ("socks5_listen", Backend(tenant=backend.tenant, name="p", socks5_listen="1080")),
            ("socks5_listen", Backend(tenant=backend.tenant, name="p", socks5_listen="unix:/run/x")),
            ("args", Credential(backend=backend, kind="command", command="/x", args="--flag")),
            ("env", Credential(backend=backend, kind="command", command="/x", env={"A=B": "c"})),
            ("ca_pem", NexusNode(name="n", address="wss://n.example.com", ca_pem="no certificate")),
        ]
        for field, row in bad:
            with self.subTest(field=field), self.assertRaises(ValidationError) as caught:
                row.full_clean()
            self.assertIn(field, caught.exception.message_dict)
