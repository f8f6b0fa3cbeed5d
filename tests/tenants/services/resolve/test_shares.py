"""Tests of tenants.services.resolve.shares: by weight, and the exact hostname before the wildcard."""

from __future__ import annotations

from tests.tenants.services.resolve.asking import GETS_NOTHING, SERVES, ResolveTestCase, ask, report, verdicts


class ShareTests(ResolveTestCase):
    def test_shares_by_weight_and_exact_before_wildcard(self) -> None:
        self.another("app.example.com", name="heavy", weight=3)
        self.another("*.example.com", name="catch-all")
        answer = ask("app.example.com")
        self.assertEqual(verdicts(answer), {"heavy": SERVES, "edge": SERVES, "catch-all": GETS_NOTHING})
        self.assertEqual([sum(each.shares.values()) for each in answer.backends], [0.75, 0.25, 0])
        self.assertIn("app.example.com is more specific than its claim *.example.com", answer.backends[2].why)
        self.assertEqual(verdicts(ask("other.example.com")), {"catch-all": SERVES})
        self.assertEqual(ask("a.b.example.com").backends, [])

    def test_live_sessions_rule(self) -> None:
        other = self.another("app.example.com", name="other")
        report(self.backend, hostnames=["app.example.com"], weight=4)
        answer = ask("app.example.com")
        self.assertTrue(answer.live)
        self.assertEqual(verdicts(answer), {"edge": SERVES, "other": GETS_NOTHING})
        self.assertIn("no live session of it does", answer.backends[1].why)
        self.assertEqual([note for note in answer.notes if "No relay" in note], [])
        (session,) = answer.backends[0].sessions
        self.assertEqual((session.relay, session.claims, session.as_wanted), ("relay-1", True, False))
        self.assertIn("is being replaced", answer.backends[0].notes[0])
        report(other, hostnames=["app.example.com"], weight=1)
        self.assertEqual([sum(each.shares.values()) for each in ask("app.example.com").backends], [0.8, 0.2])
