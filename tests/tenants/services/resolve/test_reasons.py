"""Tests of tenants.services.resolve.reasons: words for each backend that gets nothing, or refuses."""

from __future__ import annotations

from tenants.models import Backend, Credential, CredentialKind, HostRoute, NexusNode, PortMapping
from tests.support.registry import make_token
from tests.tenants.services.resolve.asking import GETS_NOTHING, REFUSES, SERVES, ResolveTestCase, ask


class ReasonTests(ResolveTestCase):
    def test_a_backend_without_the_port_gets_its_share_and_refuses_it(self) -> None:
        answer = ask("app.example.com", 8443)
        (found,) = answer.backends
        self.assertEqual((found.verdict, found.why), (REFUSES, "It maps tcp 443, and not tcp 8443."))
        self.assertEqual(found.shares, {self.node.address: 1.0})
        self.assertIn("where it is refused", answer.verdict)
        PortMapping.objects.all().delete()
        self.assertEqual(ask("app.example.com").backends[0].why, "It has no port mapping.")
        mapping = PortMapping.objects.create(backend=self.backend, public_port=443)
        HostRoute.objects.create(port_mapping=mapping, pattern="x.example.com", target="h:1")
        self.assertIn("neither a host route that fits nor a default", ask("app.example.com").backends[0].why)

    def test_why_others_get_nothing(self) -> None:
        def why() -> str:
            (found,) = ask("app.example.com").backends
            self.assertEqual(found.verdict, GETS_NOTHING)
            return found.why

        Backend.objects.update(enabled=False)
        self.assertEqual(why(), "It is disabled.")
        Backend.objects.update(enabled=True)
        type(self.acme).objects.update(enabled=False)
        self.assertEqual(why(), "Its tenant is disabled.")
        type(self.acme).objects.update(enabled=True)
        NexusNode.objects.update(enabled=False)
        self.assertEqual(why(), "All of its nodes are disabled.")
        self.backend.nodes.clear()
        self.assertEqual(why(), "It has no node.")
        self.backend.nodes.add(self.node)
        NexusNode.objects.update(enabled=True)
        Credential.objects.all().delete()
        self.assertIn("credential", why())
        Credential.objects.create(
            backend=self.backend, kind=CredentialKind.PRESIGNED_TOKEN, secret=make_token(hostnames=["x.example.com"])
        )
        self.assertIn("not in its token", why())
        self.backend.hostnames.clear()
        self.assertIn("It routes app.example.com, but does not claim it", why())

    def test_access_lists(self) -> None:
        PortMapping.objects.update(access_deny="192.0.2.0/24")
        self.assertIn("name a client address", ask("app.example.com").backends[0].access)
        self.assertEqual(ask("app.example.com", client="203.0.113.9").backends[0].access, "203.0.113.9 is admitted")
        (found,) = ask("app.example.com", client="::ffff:192.0.2.7").backends
        self.assertEqual((found.verdict, found.access), (REFUSES, "192.0.2.7 is refused"))
        self.assertIn("does not admit 192.0.2.7", found.why)
        PortMapping.objects.update(access_mode="observe")
        (found,) = ask("app.example.com", client="192.0.2.7").backends
        self.assertEqual(
            (found.verdict, found.access), (SERVES, "192.0.2.7 would be refused, and is admitted (observe)")
        )
