import json
import logging
import subprocess
import sys

from django.test import SimpleTestCase

from nexusadmin.logs import StrangersFilter
from relay.logs import MOST_OF_GROUP
from tests.support.processes import ROOT, child_environment

SCRIPT = """
import logging
import django; django.setup()
from relay.logs import get_logger
get_logger("relay.sessions.session").info("session up", backend="demo", token="hidden-token")
logging.getLogger("tenants").warning("hint %s", "lost", extra={"generation": 7, "hmac_secret": "hidden-secret"})
logging.getLogger("uvicorn.access").info("GET /")
def fail():
    password = "hidden-local"
    raise RuntimeError("no luck")
try:
    fail()
except RuntimeError:
    get_logger("relay").exception("failed")
    logging.getLogger("tenants").exception("failed too")
"""


class LogTests(SimpleTestCase):
    def lines(self, **variables):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=ROOT, env=child_environment(**variables), capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertNotIn("hidden", done.stderr.replace("[hidden]", ""))
        return done.stderr.splitlines()

    def test_json_lines(self):
        up, hint, failed, too = map(json.loads, self.lines(LOG_FORMAT="json"))
        self.assertEqual((up["event"], up["logger"], up["level"]), ("session up", "relay.sessions.session", "info"))
        self.assertEqual((up["backend"], up["token"]), ("demo", "[hidden]"))
        self.assertEqual((hint["event"], hint["generation"], hint["hmac_secret"]), ("hint lost", 7, "[hidden]"))
        for line in (failed, too):
            self.assertIn("RuntimeError: no luck", line["exception"])

    def test_console_lines(self):
        lines = self.lines(LOG_FORMAT="console")
        self.assertIn("session up", lines[0])
        self.assertIn("backend=demo", lines[0])
        self.assertIn("RuntimeError: no luck", "\n".join(lines))

    def test_level(self):
        self.assertEqual(
            [json.loads(line)["event"] for line in self.lines(LOG_FORMAT="json", LOG_LEVEL="ERROR")],
            ["failed", "failed too"],
        )

    def test_access_log(self):
        lines = self.lines(LOG_FORMAT="json", ACCESS_LOG="on")
        self.assertIn("GET /", [json.loads(line)["event"] for line in lines])

    def test_what_strangers_choose_makes_no_lines_and_no_colours(self):
        script = """
import logging
import django; django.setup()
evil = "bad\\n2026 [info] forged\\x1b[31m\\x9b31m\\x7f\\u2028\\u202e"
logging.getLogger("relay.sessions.session").warning("closed: " + evil, extra={"hostname": evil})
try:
    raise RuntimeError(evil)
except RuntimeError:
    logging.getLogger("relay").exception("failed")
"""
        for log_format in ("json", "console"):
            with self.subTest(format=log_format):
                done = subprocess.run(
                    [sys.executable, "-c", script],
                    cwd=ROOT,
                    env=child_environment(LOG_FORMAT=log_format),
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(done.returncode, 0, done.stderr)
                found = [character for character in done.stderr if character != "\n" and not character.isprintable()]
                self.assertEqual(found, [])
                first = done.stderr.split("\n")[0]
                self.assertEqual(first.count("forged"), 2)
                if log_format == "json":
                    self.assertIn("\x1b[31m\x9b31m", json.loads(first)["event"])


class StrangersFilterTests(SimpleTestCase):
    def test_what_a_request_alone_causes_is_one_line_and_not_many(self):
        found = StrangersFilter()
        for name, status in (("django.security.DisallowedHost", 400), ("django.request", 400)):
            records = []
            for number in range(100):
                try:
                    raise ValueError
                except ValueError:
                    record = logging.LogRecord(
                        name, logging.ERROR, "", 0, f"host {number} %s", ("x" * 1000,), sys.exc_info()
                    )
                record.status_code = status
                if found.filter(record):
                    records.append(record)
            self.assertEqual(len(records), MOST_OF_GROUP)
            self.assertTrue(all(record.exc_info is None and len(record.getMessage()) == 200 for record in records))

    def test_what_is_ours_is_told_whole(self):
        found = StrangersFilter()
        for name, status in (("django.request", 500), ("tenants", None)):
            record = logging.LogRecord(name, logging.ERROR, "", 0, "x" * 1000, None, (ValueError, ValueError(), None))
            record.status_code = status
            self.assertTrue(all(found.filter(record) for _ in range(100)))
            self.assertTrue(record.exc_info)
            self.assertEqual(len(record.getMessage()), 1000)
