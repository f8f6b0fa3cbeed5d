import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet
from django.db import connection
from django.test import SimpleTestCase
from psycopg.conninfo import make_conninfo

from tests.support.processes import ROOT

REPORT = """
import json
from nexusadmin import settings
print(json.dumps({name: getattr(settings, name) for name in dir(settings) if name.isupper()}, default=str))
"""
GOOD = {
    "DEBUG": "off",
    "SECRET_KEY": "only-for-tests-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF",
    "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "ALLOWED_HOSTS": "admin.example.com",
    "DATABASE_URL": "postgres://nexus:pass@db.example.com:5433/registry",
    "EMAIL_URL": "dummymail://",
}


class SettingsTests(SimpleTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = Path(directory.name) / "state"

    def python(self, *argv, **variables):
        environment = {"PATH": os.environ["PATH"], "STATE_DIR": str(self.state), **variables}
        return subprocess.run(
            [sys.executable, *argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )

    def settings(self, **variables):
        done = self.python("-c", REPORT, **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def refusal(self, **variables):
        done = self.python("manage.py", "check", **variables)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def test_defaults_serve_a_laptop(self):
        found = self.settings()
        self.assertTrue(found["DEBUG"])
        self.assertEqual(found["DATABASES"]["default"]["NAME"], str(self.state / "nexusadmin.sqlite3"))
        self.assertEqual(found["DATABASES"]["default"]["OPTIONS"]["transaction_mode"], "IMMEDIATE")
        self.assertTrue(found["CELERY_TASK_ALWAYS_EAGER"])
        self.assertEqual(found["CHANNEL_LAYERS"]["default"]["BACKEND"], "channels.layers.InMemoryChannelLayer")

    def test_a_database_server_that_vanishes_is_given_up_soon(self):
        found = self.settings(DATABASE_URL="postgres://user@db.example.com/name?tcp_user_timeout=9000")
        options = found["DATABASES"]["default"]["OPTIONS"]
        self.assertEqual((options["connect_timeout"], options["keepalives_idle"]), (5, 15))
        self.assertEqual(str(options["tcp_user_timeout"]), "9000")
        self.assertIn("keepalives_count=3", make_conninfo(**options))  # it knows them all

    def test_generated_keys_are_private_and_kept(self):
        first, second = self.settings(), self.settings()
        self.assertEqual(first["SECRET_KEY"], second["SECRET_KEY"])
        self.assertEqual(first["FIELD_ENCRYPTION_KEYS"], second["FIELD_ENCRYPTION_KEYS"])
        for name in ("secret-key", "field-encryption-keys"):
            self.assertEqual((self.state / name).stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)

    def test_sqlite_is_opened_with_wal_and_foreign_keys(self):
        script = (
            "import django; django.setup()\nfrom django.db import connection as c\n"
            "print([c.cursor().execute(f'PRAGMA {p}').fetchone()[0] "
            "for p in ('journal_mode', 'foreign_keys', 'busy_timeout')])"
        )
        done = self.python("-c", script, DJANGO_SETTINGS_MODULE="nexusadmin.settings")
        self.assertEqual(done.stdout.strip(), "['wal', 1, 20000]", done.stderr)

    def test_production_settings_are_complete_and_safe(self):
        found = self.settings(**GOOD, REDIS_URL="redis://cache.example.com:6379/2")
        database = found["DATABASES"]["default"]
        self.assertEqual((database["HOST"], database["PORT"], database["NAME"]), ("db.example.com", 5433, "registry"))
        self.assertFalse(found["CELERY_TASK_ALWAYS_EAGER"])
        self.assertEqual(found["CELERY_BROKER_URL"], "redis://cache.example.com:6379/2")
        layer = found["CHANNEL_LAYERS"]["default"]
        self.assertEqual(layer["BACKEND"], "channels_redis.pubsub.RedisPubSubChannelLayer")
        self.assertEqual(
            layer["CONFIG"]["hosts"], [{"address": "redis://cache.example.com:6379/2", "socket_timeout": None}]
        )
        for name in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS"):
            self.assertTrue(found[name], name)
        self.assertFalse(self.state.exists(), "nothing is generated with DEBUG off")

    def test_deploy_check_is_clean(self):
        variables = {**GOOD, "STATIC_ROOT": str(self.state / "static"), "PUBLIC_URL": "https://admin.example.com"}
        check = ("manage.py", "check", "--deploy", "--fail-level", "WARNING", "--offline")
        done = self.python(*check, **variables)
        self.assertIn("nexusadmin.E001", done.stderr)
        self.assertIn("manage.py collectstatic", done.stderr)
        (self.state / "static").mkdir(parents=True)
        (self.state / "static" / "staticfiles.json").write_text("{}")
        done = self.python(*check, **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no issues", done.stdout)

    def test_every_variable_is_documented(self):
        source = (ROOT / "nexusadmin" / "settings.py").read_text()
        document = (ROOT / "docs" / "settings.md").read_text()
        names = set(re.findall(r"(?:_switch|_number|_choice|_list|env\.\w+)\(\s*\"([A-Z_]+)\"", source))
        self.assertGreater(len(names), 20)
        self.assertEqual([name for name in sorted(names) if f"`{name}`" not in document], [])

    def test_everything_missing_is_said_at_once_with_commands(self):
        message = self.refusal(DEBUG="off")
        for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "ALLOWED_HOSTS", "DATABASE_URL", "EMAIL_URL"):
            self.assertIn(f"{name} is not set", message)
            self.assertIn(f"export {name}", message)

    def test_unsafe_values_are_refused_without_being_shown(self):
        cases = [
            ({"SECRET_KEY": "changeme-nobody-sees"}, "SECRET_KEY is too weak", "changeme"),
            ({"FIELD_ENCRYPTION_KEYS": "not-a-key-nobody-sees"}, "key 1 is not 32 bytes", "not-a-key"),
            ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS holds *", None),
            ({"CSRF_TRUSTED_ORIGINS": "http://admin.example.com"}, "not an https:// origin", None),
            ({"DATABASE_URL": "mysql://u:hidden@h/n"}, "not supported", "hidden"),
            ({"DATABASE_URL": "nonsense:hidden"}, "DATABASE_URL", "hidden"),
            ({"NODE_PROXY": "ftp://user:hidden@proxy.example"}, "NODE_PROXY 'ftp://…'", "hidden"),
            ({"REDIS_URL": "hidden:6379"}, "REDIS_URL is not a Redis address", "hidden"),
            ({"CREDENTIAL_COMMANDS": "/bin/a,attestor"}, "CREDENTIAL_COMMANDS holds 'attestor'", None),
        ]
        for variables, expected, secret in cases:
            with self.subTest(expected):
                message = self.refusal(**{**GOOD, **variables})
                self.assertIn(expected, message)
                if secret:
                    self.assertNotIn(secret, message)

    def test_commands_are_listed_where_debug_is_off(self):
        self.assertIsNone(self.settings()["CREDENTIAL_COMMANDS"])
        self.assertEqual(self.settings(**GOOD)["CREDENTIAL_COMMANDS"], [])
        for variables in ({}, GOOD):
            listed = self.settings(**{**variables, "CREDENTIAL_COMMANDS": "/bin/a, /bin/b"})["CREDENTIAL_COMMANDS"]
            self.assertEqual(listed, ["/bin/a", "/bin/b"])

    def test_wrong_values_are_named(self):
        for variables, expected in [
            ({"DEBUG": "maybe"}, "DEBUG is 'maybe': set it to on or off."),
            ({"WEB_PORT": "eighty"}, "WEB_PORT is 'eighty': set it to a whole number from 1 to 65535."),
            ({"WEB_PORT": "65536"}, "WEB_PORT is '65536'"),
            ({"LOG_FORMAT": "xml"}, "LOG_FORMAT is 'xml': set it to one of console, json."),
        ]:
            with self.subTest(expected):
                self.assertIn(expected, self.refusal(**variables))

    def test_values_come_from_files_too(self):
        path = self.state.parent / "url"
        path.write_text("redis://from-a-file:6379/0\n")
        self.assertEqual(self.settings(REDIS_URL_FILE=str(path))["REDIS_URL"], "redis://from-a-file:6379/0")
        self.assertIn("both set", self.refusal(REDIS_URL_FILE=str(path), REDIS_URL="redis://localhost"))
        self.assertIn("cannot be read (No such file", self.refusal(REDIS_URL_FILE=str(path) + "-gone"))

    def test_values_are_taken_as_they_are_written(self):
        secrets = "$ecret-that-is-longer-than-thirty-two,$$-and-another-one-that-is-long-enough"
        found = self.settings(
            VERIFIER_SECRETS=secrets, DATABASE_URL="postgres://u:$word@h/n", EMAIL_URL="smtp://u:$word@h:25"
        )
        self.assertEqual(found["VERIFIER_SECRETS"], secrets.split(","))
        self.assertEqual(found["DATABASES"]["default"]["PASSWORD"], "$word")
        self.assertEqual(found["EMAIL_HOST_PASSWORD"], "$word")
        path = self.state.parent / "secrets"
        for written in (secrets.encode(), b"\xef\xbb\xbf" + secrets.encode(), f"{secrets}\r\n".encode("utf-16")):
            path.write_bytes(written)
            self.assertEqual(self.settings(VERIFIER_SECRETS_FILE=str(path))["VERIFIER_SECRETS"], secrets.split(","))

    def test_keys_can_be_made_with_the_command_that_the_messages_name(self):
        field = self.python("-m", "nexusadmin.keys", "field").stdout.strip()
        secret = self.python("-m", "nexusadmin.keys", "secret").stdout.strip()
        self.settings(**{**GOOD, "FIELD_ENCRYPTION_KEYS": f"{field},{GOOD['FIELD_ENCRYPTION_KEYS']}"})
        self.settings(**{**GOOD, "SECRET_KEY": secret})
        self.assertEqual(self.python("-m", "nexusadmin.keys").returncode, 2)

    def test_resolvers_are_addresses_with_or_without_a_port(self):
        found = self.settings(DNS_RESOLVERS="192.0.2.53, 127.0.0.1:5353\n[2001:db8::53]:54,::1")
        self.assertEqual(
            found["DNS_RESOLVERS"], [["192.0.2.53", 53], ["127.0.0.1", 5353], ["2001:db8::53", 54], ["::1", 53]]
        )
        for text in ("dns.example.com", "192.0.2.53:0", "192.0.2.53:99999", "[::1]:x"):
            self.assertIn("DNS_RESOLVERS holds", self.python("manage.py", "check", DNS_RESOLVERS=text).stderr)


class TestDatabaseTests(SimpleTestCase):
    databases = {"default"}

    def test_database_is_the_one_of_this_run(self) -> None:
        self.assertIn("test", str(connection.settings_dict["NAME"]))
