"""Tests of tenants.services.resolve.answer: one line for everything, and JSON."""

from __future__ import annotations

import json

from django.test import SimpleTestCase

from tenants.services.resolve.answer import BackendAnswer, Outcome, Resolution
from tenants.services.resolve.question import parse_question


class ResolutionTests(SimpleTestCase):
    def resolution(self, *outcomes: Outcome) -> Resolution:
        backends = [BackendAnswer("acme", f"b{number}", number, each) for number, each in enumerate(outcomes)]
        return Resolution(parse_question("app.example.com", 443, "192.0.2.7"), backends=backends)

    def test_the_verdict(self) -> None:
        serves, refuses, nothing = Outcome.SERVES, Outcome.REFUSES, Outcome.GETS_NOTHING
        where = "app.example.com at tcp port 443"
        for outcomes, verdict in (
            ((), f"No backend serves {where}."),
            ((nothing,), f"No backend serves {where}."),
            ((serves, nothing), f"{where} is served by acme/b0."),
            ((serves, serves), f"{where} is served by acme/b0, acme/b1."),
            ((refuses,), f"{where} goes to acme/b0, where it is refused."),
            ((serves, refuses), f"{where} is served by acme/b0. Some of its users are refused."),
        ):
            with self.subTest(outcomes):
                self.assertEqual(self.resolution(*outcomes).verdict, verdict)

    def test_json(self) -> None:
        found = json.loads(json.dumps(self.resolution(Outcome.SERVES).as_json()))
        self.assertEqual((found["hostname"], found["port"], found["client"]), ("app.example.com", 443, "192.0.2.7"))
        self.assertEqual(found["backends"][0]["verdict"], "serves")
