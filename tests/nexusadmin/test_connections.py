"""What `manage.py check` says of servers that are there, are not there, or do not take us."""

from __future__ import annotations

import tempfile
import unittest
from io import StringIO
from pathlib import Path
from unittest import mock

import redis
from django.core.checks import Error, Warning
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import connections
from django.test import SimpleTestCase, override_settings

from nexusadmin.connections import check_connections
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.registry import database, sqlite_settings

SMTP = "django.core.mail.backends.smtp.EmailBackend"


class DatabaseTests(unittest.TestCase):
    def said(self, path: Path) -> list[str]:
        with (
            database(sqlite_settings(path), migrate=False) as alias,
            mock.patch("nexusadmin.connections.connections", {alias: connections[alias]}),
        ):
            connections[alias].close()
            return [message.msg for message in check_connections()]

    def test_a_file_that_is_not_there_is_not_made(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new.sqlite3"
            self.assertEqual(self.said(path), [])
            self.assertFalse(path.exists())

    def test_a_file_that_is_no_database(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.sqlite3"
            path.write_text("no database\n" * 100)
            (said,) = self.said(path)
            self.assertIn("The database gives no answer: file is not a database", said)


@mock.patch("nexusadmin.connections.connections", {})
class ServerTests(SimpleTestCase):
    def check(self, **values: object) -> list[tuple[type, str]]:
        with override_settings(**values):
            return [(type(message), f"{message.msg} {message.hint}") for message in check_connections()]

    def redis(self, url: str) -> list[tuple[type, str]]:
        return self.check(REDIS_URL=url, CELERY_BROKER_URL=url)

    def test_nothing_is_named(self) -> None:
        self.assertEqual(self.check(REDIS_URL=""), [])

    def test_redis(self) -> None:
        with RedisServer() as server:
            self.assertEqual(self.redis(server.url), [])
            redis.Redis(port=server.port).config_set("requirepass", "s3cret")
            wrong = self.redis(server.url.replace("redis://", "redis://:wr0ng@"))
        self.assertEqual([kind for kind, _ in wrong], [Error, Error])
        for _, text in wrong:
            self.assertIn("Correct REDIS_URL.", text)
            self.assertNotIn("wr0ng", text)
        away = self.redis(server.url)
        self.assertEqual([kind for kind, _ in away], [Warning, Warning])
        self.assertIn("Redis gives no answer: ", away[0][1])
        self.assertIn("Redis as Celery's broker gives no answer: ", away[1][1])

    def test_mail(self) -> None:
        found = self.check(EMAIL_BACKEND=SMTP, EMAIL_HOST="127.0.0.1", EMAIL_PORT=free_port(), REDIS_URL="")
        self.assertEqual([kind for kind, _ in found], [Warning])
        self.assertIn("The mail server gives no answer: ", found[0][1])


class CommandTests(SimpleTestCase):
    def test_only_the_command_tries_them_and_not_where_it_is_told_to(self) -> None:
        before = set(registry.registered_checks)
        for arguments, tried in (((), 1), (("--offline",), 0), (("--tag", "security"), 0)):
            with mock.patch("nexusadmin.connections.check_connections", return_value=[]) as check:
                call_command("check", *arguments, stdout=StringIO(), stderr=StringIO())
                self.assertEqual(check.call_count, tried, arguments)
            self.assertEqual(set(registry.registered_checks), before)
