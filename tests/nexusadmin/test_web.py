import subprocess
import sys
import tempfile
from pathlib import Path

from django.db import connection
from django.test import SimpleTestCase, TestCase

from tests.nexusadmin.test_settings import GOOD
from tests.support.ports import free_port, is_listening
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, ManagedProcess, child_environment


class WebTests(TestCase):
    def test_health(self):
        response = self.client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertIn("no-store", response["Cache-Control"])

    def test_the_root_leads_to_the_admin(self):
        self.assertRedirects(self.client.get("/"), "/admin/", fetch_redirect_response=False)
        self.assertContains(self.client.get("/admin/login/"), "nexusadmin")

    def test_database_is_the_one_of_this_run(self):
        self.assertIn("test", str(connection.settings_dict["NAME"]))


class ProductionServerTests(SimpleTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.port = free_port()
        self.environment = child_environment(
            **{**GOOD, "STATIC_ROOT": str(self.directory / "static"), "PUBLIC_URL": "https://admin.example.com"}
        )

    def serve(self):
        argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(self.port)]
        process = ManagedProcess([*argv, "--lifespan", "off"], env=self.environment)
        self.addCleanup(process.kill)
        return process

    def get(self, path, *options):
        done = subprocess.run(
            [
                "curl",
                "-si",
                "--noproxy",
                "*",
                "-H",
                "Host: admin.example.com",
                *options,
                f"http://127.0.0.1:{self.port}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout

    def test_without_static_files_it_names_the_command(self):
        process = self.serve()
        self.assertNotEqual(process.wait(), 0)
        self.assertIn("manage.py collectstatic", process.output())

    def test_serves_behind_a_proxy_and_notices_the_database(self):
        with PostgresServer() as server:
            self.environment["DATABASE_URL"] = server.create_database("registry")
            for command in (
                ["collectstatic", "--noinput"],
                ["migrate", "--noinput"],
                ["check", "--deploy", "--fail-level=WARNING"],
            ):
                done = subprocess.run(
                    [sys.executable, "manage.py", *command],
                    cwd=ROOT,
                    env=self.environment,
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(done.returncode, 0, done.stderr)
            process = self.serve()
            process.wait_ready(lambda: is_listening(self.port), "uvicorn listens")
            self.assertIn("301 Moved Permanently", self.get("/admin/login/"))
            page = self.get("/admin/login/", "-H", "X-Forwarded-Proto: https")
            self.assertIn("200 OK", page)
            for header in ("strict-transport-security: max-age=31536000", "x-frame-options: deny", "; secure"):
                self.assertIn(header, page.lower())
            style = page.split('href="/static/unfold/css/', 1)[1].split('"')[0]
            self.assertIn("200 OK", self.get(f"/static/unfold/css/{style}", "-H", "X-Forwarded-Proto: https"))
            self.assertIn("200 OK", self.get("/healthz"))
            large = self.directory / "large"
            large.write_bytes(b"x" * (9 * 1024 * 1024))
            self.assertIn("413 ", self.get("/admin/login/", "--data-binary", f"@{large}"))
            server.halt()
            self.assertIn("503 Service Unavailable", self.get("/healthz"))
            server.start()
            self.assertIn("200 OK", self.get("/healthz"))
        self.assertNotIn("Traceback", process.output())
        self.assertNotIn("Warning", process.output())
