"""Tests of relay.sessions.opener: which streams a session may be sent."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay import Claims
from relay.protocol.messages import Connect
from relay.sessions.opener import covers


class CoverTests(SimpleTestCase):
    def test_claims_cover_what_a_session_could_be_sent(self) -> None:
        claims = Claims(hostnames=("a.example.com", "*.b.example.com"), tcp_ports=(25,))
        for hostname, port, transport, expected in (
            ("a.example.com", 80, "tcp", True),
            ("A.Example.com.", 80, "tcp", True),
            ("x.b.example.com", 80, "tcp", True),
            ("x.y.b.example.com", 80, "tcp", False),
            ("b.example.com", 80, "tcp", False),
            ("tcp:25", 25, "tcp", True),
            ("tcp:26", 26, "tcp", False),
            ("udp:25", 25, "udp", False),
        ):
            request = Connect(bytes(16), hostname=hostname, conn_port=port, transport=transport)
            self.assertEqual(covers(claims, request), expected, hostname)
