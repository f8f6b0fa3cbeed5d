"""Tests of tenants.bridge.troubles: what is told of targets, and in which words; the rest is in test_reporter."""

from __future__ import annotations

import time
import unittest
import uuid
from types import SimpleNamespace
from typing import Any
from unittest import mock

from relay import PortRoutes, RouteTable, TargetStatus
from relay.sessions.usage import FailedDial
from tenants.bridge import troubles
from tenants.bridge.troubles import failing_targets, shown_problem
from tests.support.registry import make_token

NOW = time.time()
REFUSED = FailedDial("nothing listens there", NOW - 5, NOW)


def down(target: str) -> TargetStatus:
    return TargetStatus(target, 5.0, False, "timed out", NOW)


class FailingTests(unittest.TestCase):
    """Which targets of which routes fail."""

    def ask(self, hosts: dict[str, str], default: str, checked: list[str], failed: list[str]) -> tuple[list[str], bool]:
        backend: Any = SimpleNamespace(routes=RouteTable.build([PortRoutes("tcp", 443, default, hosts)]))
        found, every = failing_targets(backend, {name: down(name) for name in checked}, dict.fromkeys(failed, REFUSED))
        return sorted(found), every

    def test_some_and_all(self) -> None:
        for hosts, default, checked, failed, expected in (
            ({}, "a:1", ["a:1"], [], (["a:1"], True)),
            ({}, "a:1", [], ["a:1"], (["a:1"], True)),
            ({}, "a:1,b:1", ["a:1"], [], (["a:1"], False)),
            ({}, "a:1,b:1", ["a:1", "b:1"], [], (["a:1", "b:1"], True)),
            ({}, "a:1, b:1", [], ["a:1,b:1"], (["a:1,b:1"], True)),
            ({"x.example.com": "c:1"}, "a:1", ["a:1"], [], (["a:1"], False)),
            ({"x.example.com": "c:1"}, "a:1", ["a:1"], ["c:1"], (["a:1", "c:1"], True)),
            ({}, "a:1", ["gone:1"], ["gone:2"], ([], False)),
        ):
            with self.subTest(hosts=hosts, default=default, checked=checked, failed=failed):
                self.assertEqual(self.ask(hosts, default, checked, failed), expected)


class WordsTests(unittest.TestCase):
    def test_no_credential_no_command_and_no_odd_characters(self) -> None:
        token = make_token()
        self.assertEqual(shown_problem(f"node said: bad {token}\0\n\x1b[1m!"), "node said: bad (a token) [1m!")
        self.assertLessEqual(len(shown_problem("x" * 5_000)), troubles.PROBLEM_LENGTH)
        said = shown_problem("attestation command 'mint' failed with exit status 1: pass=hunter2")
        self.assertNotIn("hunter2", said)
        self.assertNotIn("mint", said)
        self.assertEqual(shown_problem("nothing listens"), "nothing listens")
        for path in ("/run/key", "/run/it's"):
            said = shown_problem(f"cannot read the HMAC secret file {path!r}: gone")
            self.assertNotIn("/run", said)


class BoundTests(unittest.TestCase):
    """What is written of many."""

    def test_more_attempts_are_written_bit_by_bit_and_news_at_once(self) -> None:
        table = troubles._Table(mock.sentinel.model)
        written: list[tuple[uuid.UUID, int]] = []

        def write(model: Any, relay: int, rows: list[Any], using: str) -> None:
            self.assertLessEqual(len(rows), troubles.BATCH)
            written.extend((row.id, row.fields["attempts"]) for row in rows)

        def attempt(number: int) -> int:
            written.clear()
            for key in range(50):
                table.put((key, "wss://n"), ("waiting",), (number,), {"attempts": number})
            table.write(1, "default", whole=False)
            return len(written)

        with (
            mock.patch.object(troubles.reports, "report_rows", write),
            mock.patch.object(troubles.reports, "forget_rows"),
            mock.patch.object(troubles, "MOST_SMALL", 20),
            mock.patch.object(troubles, "BATCH", 7),
        ):
            self.assertEqual(attempt(1), 50)
            self.assertEqual(attempt(1), 0)
            self.assertEqual(attempt(2), 20)
            first = {key for key, _ in written}
            self.assertEqual(attempt(3), 20)
            self.assertFalse(first & {key for key, _ in written}, "the others come first")
