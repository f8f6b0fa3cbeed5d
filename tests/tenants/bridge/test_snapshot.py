from typing import Any

from cryptography.fernet import Fernet
from django.db import connection
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from relay.config import (
    AttestationOptions,
    BackendConfig,
    Claims,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    Limits,
    NodeConfig,
    PresignedToken,
    Removal,
    RemovalMode,
    TokenCommand,
    UdpRoute,
)
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.config.target_policy import TargetPolicy
from relay.routing import PortRoutes, RouteTable
from tenants.bridge.snapshot import UnreadableBackend, load_all, load_backends
from tenants.changes import generations
from tenants.models import (
    OPEN_POLICY,
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    CredentialKind,
    Hostname,
    HostRoute,
    PortClaim,
    PortMapping,
    Site,
    Tenant,
)
from tests.support.registry import (
    make_backend,
    make_node,
    make_served_backend,
    make_tenant,
    make_token,
)


def key(backend: Backend) -> str:
    return f"backend:{backend.pk}"


class SnapshotTests(TestCase):
    def test_every_column_arrives(self) -> None:
        tenant = make_tenant(slug="acme", max_streams=11, streams_per_second=12, upload_rate=13, download_rate=14)
        backend = make_backend(
            tenant,
            name="edge",
            weight=7,
            health_check_enabled=False,
            health_check_inactivity_timeout=30,
            health_check_pong_timeout=2,
            flow_low_water=1,
            flow_high_water=2,
            flow_max_buffer=3,
            socks5_listen="127.0.0.1:1080",
            outbound_allowed=True,
            allowed_outbound_ports=[465, 25],
            max_streams=1,
            streams_per_second=2,
            upload_rate=3,
            download_rate=4,
            removal_mode="kill",
            removal_seconds=5,
        )
        first, second = make_node(name="first", ca_pem="PEM"), make_node(name="second")
        BackendNode.objects.create(backend=backend, node=second, position=1)
        BackendNode.objects.create(backend=backend, node=first, position=2)
        for position, name in enumerate(("z.example.com", "*.a.example.com")):
            hostname = Hostname.objects.create(tenant=tenant, name=name)
            BackendHostname.objects.create(backend=backend, hostname=hostname, position=position)
        PortClaim.objects.create(backend=backend, public_port=53)
        PortClaim.objects.create(backend=backend, public_port=53, transport="udp", flow_idle_timeout=9)
        mapping = PortMapping.objects.create(
            backend=backend, public_port=443, default_target="unix:/run/app.sock, [::1]:80"
        )
        HostRoute.objects.create(port_mapping=mapping, pattern="z.example.com", target="[::1]:9443")
        PortMapping.objects.create(
            backend=backend,
            public_port=53,
            transport="udp",
            default_target="localhost:5353",
            proxy_protocol="v2",
            target_order="round-robin",
            dial_timeout=6,
            target_health_interval=7,
            target_health_timeout=8,
            target_health_up_after=9,
            target_health_down_after=10,
            access_allow="2001:DB8::/32 192.0.2.7",
            access_deny="192.0.2.0/24",
            access_mode="observe",
        )
        Credential.objects.create(
            backend=backend,
            kind=CredentialKind.COMMAND,
            command="/bin/attest",
            args=["-b", "-a"],
            env={"Z": "1", "A": "2"},
            timeout=4,
            token_ttl=31,
            cache_handshake=5,
            handshake_max_age=6,
            reauth_interval=7,
            reauth_grace=8,
            maintenance_grace_cap=9,
            authorizer_status_uri="https://status.example.com",
            policy_version="v3",
        )
        expected = BackendConfig(
            key=key(backend),
            name="edge",
            tenant="acme",
            nodes=(NodeConfig(second.address, "second"), NodeConfig(first.address, "first", "PEM")),
            credential=TokenCommand("/bin/attest", ("-b", "-a"), (("Z", "1"), ("A", "2")), 4.0),
            claims=Claims(
                hostnames=("z.example.com", "*.a.example.com"),
                weight=7,
                tcp_ports=(53,),
                udp_routes=(UdpRoute(53, 9),),
                outbound_allowed=True,
                allowed_outbound_ports=(465, 25),
            ),
            routes=RouteTable.build(
                [
                    PortRoutes("tcp", 443, "unix:/run/app.sock,[::1]:80", {"z.example.com": "[::1]:9443"}),
                    PortRoutes(
                        "udp",
                        53,
                        "localhost:5353",
                        {},
                        PortOptions(
                            ProxyProtocol.V2,
                            TargetOrder.ROUND_ROBIN,
                            AccessList(("2001:db8::/32", "192.0.2.7/32"), ("192.0.2.0/24",), AccessMode.OBSERVE),
                            TargetHealth(7.0, 8.0, 9, 10),
                            6.0,
                        ),
                    ),
                ]
            ),
            attestation=AttestationOptions(31, 5, 6, 7, 8, 9, "https://status.example.com", "v3"),
            health_checks=HealthCheckOptions(False, 30.0, 2.0),
            flow_control=FlowControlOptions(2, 1, 3),
            socks5_listen="127.0.0.1:1080",
            limits=Limits(1, 2, 3, 4),
            tenant_limits=Limits(11, 12, 13, 14),
            removal=Removal(RemovalMode.KILL, 5.0),
        )
        config = load_all()
        self.assertEqual(dict(config.backends), {key(backend): expected})
        self.assertEqual(config.generation, generations.current())

    def test_every_kind_of_credential(self) -> None:
        token = make_token(hostnames=["a.example.com"])
        for kind, fields, expected in (
            ("presigned_token", {"secret": token}, PresignedToken(token)),
            ("hmac_secret", {"secret": " spaces within \n"}, HmacSecret("spaces within")),
            ("hmac_secret_file", {"secret_file": "/etc/key"}, HmacSecretFile("/etc/key")),
            ("command", {"command": "/bin/x"}, TokenCommand("/bin/x")),
        ):
            backend = make_backend()
            Credential.objects.create(backend=backend, kind=kind, **fields)
            self.assertEqual(load_all().backends[key(backend)].credential, expected)
        bare = make_backend()
        self.assertIsNone(load_all().backends[key(bare)].credential)

    def test_what_is_disabled_is_left_out(self) -> None:
        on, off = make_served_backend(), make_served_backend(enabled=False)
        of_disabled_tenant = make_served_backend(make_tenant(enabled=False))
        on.nodes.add(make_node(enabled=False))
        config = load_all()
        self.assertEqual(list(config.backends), [key(on)])
        self.assertEqual(len(config.backends[key(on)].nodes), 1)
        found = load_backends([on.pk, off.pk, of_disabled_tenant.pk, 10**9])
        self.assertEqual(found[key(on)], config.backends[key(on)])
        self.assertEqual([found[key(off)], found[key(of_disabled_tenant)], found[f"backend:{10**9}"]], [None] * 3)

    def test_how_those_go_that_are_not_served(self) -> None:
        make_served_backend()
        killed = make_served_backend(enabled=False, removal_mode="kill")
        slow = make_served_backend(make_tenant(enabled=False), removal_seconds=90)
        self.assertEqual(
            dict(load_all().removals), {key(killed): Removal(RemovalMode.KILL), key(slow): Removal(seconds=90.0)}
        )

    def test_sites(self) -> None:
        anywhere, north, south = (make_backend(site=site) for site in ("", "north", "south"))
        for site, expected in ((None, [anywhere, north, south]), ("north", [anywhere, north]), ("east", [anywhere])):
            self.assertEqual(list(load_all(site).backends), [key(backend) for backend in expected])
        self.assertEqual(load_backends([south.pk], "north"), {key(south): None})

    def test_where_targets_may_be(self) -> None:
        bounded = make_tenant(target_networks="10.0.0.0/8 usual", target_ports="80,8000-8999", target_unix=False)
        mine, free = make_backend(bounded), make_backend()
        policy = TargetPolicy(("10.0.0.0/8", "usual"), ((80, 80), (8000, 8999)))
        Site.objects.create(slug="north", target_networks="usual, 127.0.0.1")
        Site.objects.create(slug="open", **OPEN_POLICY)
        of_site = TargetPolicy(("usual", "127.0.0.1/32"), whose="site")
        for site, expected in (
            (None, [(policy,), ()]),
            ("nowhere", [(policy,), ()]),
            ("open", [(policy,), ()]),
            ("north", [(policy, of_site), (of_site,)]),
        ):
            backends = load_all(site).backends
            self.assertEqual([backends[key(each)].target_policies for each in (mine, free)], expected, site)
        new = make_backend(Tenant.objects.create(slug="new"))
        self.assertEqual(load_backends([new.pk])[key(new)].target_policies, (TargetPolicy(),))

    def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(self) -> None:
        def queries(what: Any) -> int:
            with CaptureQueriesContext(connection) as captured:
                what()
            return len(captured)

        few = [make_served_backend().pk]
        for_few = queries(load_all), queries(lambda: load_backends(few))
        many = few + [make_served_backend().pk for _ in range(12)]
        self.assertEqual((queries(load_all), queries(lambda: load_backends(many))), for_few)
        self.assertLessEqual(max(for_few), 9)
        self.assertEqual(queries(lambda: load_all("north")), for_few[0] + 1)


class UnreadableTests(TestCase):
    """One broken row is one backend's trouble."""

    def setUp(self) -> None:
        self.good, self.bad = make_served_backend(), make_served_backend()
        self.problems: list[UnreadableBackend] = []

    def assertOnlyBadIsLeftOut(self) -> UnreadableBackend:
        config = load_all(report=self.problems.append)
        self.assertEqual(list(config.backends), [key(self.good)])
        [problem] = self.problems
        self.assertEqual(problem.key, key(self.bad))
        self.assertEqual(problem.backend, str(self.bad))
        self.assertNotIn("not so secret", problem.message)
        return problem

    def sql(self, statement: str, *values: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    def test_a_secret_without_its_key(self) -> None:
        keys = [Fernet.generate_key().decode()]
        with override_settings(FIELD_ENCRYPTION_KEYS=keys):
            credential = self.good.credential
            credential.secret = "anew"
            credential.save()
            problem = self.assertOnlyBadIsLeftOut()
        self.assertIn("cannot be decrypted", problem.message)

    def test_broken_values(self) -> None:
        mapping = self.bad.port_mappings.get()
        for statement, values in (
            ("UPDATE tenants_credential SET secret = %s WHERE backend_id = %s", ["not ciphertext", self.bad.pk]),
            ("UPDATE tenants_portmapping SET default_target = %s WHERE id = %s", ["nowhere", mapping.pk]),
            ("UPDATE tenants_backend SET outbound_allowed = true, allowed_outbound_ports = %s WHERE id = %s",
             ['{"a": 1}', self.bad.pk]),
        ):  # fmt: skip
            with self.subTest(statement):
                self.sql(statement, *values)
                self.problems.clear()
                self.assertOnlyBadIsLeftOut()
        self.assertEqual(load_backends([self.bad.pk], report=self.problems.append), {key(self.bad): None})

    def test_a_policy_that_can_not_be_read_bounds_everything(self) -> None:
        for statement in (
            "UPDATE tenants_tenant SET target_networks = 'everything' WHERE id = %s",
            "UPDATE tenants_tenant SET target_networks = '', target_ports = 'http' WHERE id = %s",
        ):
            with self.subTest(statement):
                self.sql(statement, self.bad.tenant_id)
                self.problems.clear()
                self.assertOnlyBadIsLeftOut()
        Site.objects.create(slug="north")
        self.sql("UPDATE tenants_site SET target_networks = 'everything' WHERE slug = %s", "north")
        self.assertEqual(dict(load_all("north", report=self.problems.append).backends), {})

    def test_without_any_key_the_reason_says_so(self) -> None:
        with override_settings(FIELD_ENCRYPTION_KEYS=[]):
            self.assertEqual(dict(load_all(report=self.problems.append).backends), {})
        self.assertIn("FIELD_ENCRYPTION_KEYS", self.problems[0].message)

    def test_problems_are_logged(self) -> None:
        self.sql("UPDATE tenants_credential SET secret = %s", "not ciphertext")
        with self.assertLogs("tenants.bridge", "ERROR") as logs:
            load_all()
        self.assertEqual(len(logs.records), 2)
