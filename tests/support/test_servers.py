import psycopg
from django.test import SimpleTestCase

from tests.support.celery_worker import CeleryWorker
from tests.support.ports import is_listening
from tests.support.postgres import PostgresServer
from tests.support.processes import child_environment
from tests.support.redis import RedisServer


class ServersTests(SimpleTestCase):
    def test_redis_comes_back_on_its_port_and_goes(self):
        with RedisServer() as server:
            self.assertTrue(server.answers())
            server.kill()
            self.assertFalse(is_listening(server.port))
            server.start()
            self.assertTrue(server.answers())
        self.assertFalse(is_listening(server.port))

    def test_postgres_keeps_its_data_over_a_restart(self):
        with PostgresServer() as server:
            self.assertEqual(server.create_database("kept"), f"postgres://nexusadmin@/{server.directory}/kept")
            server.halt()
            self.assertFalse(server.answers())
            server.start()
            conninfo = f"host={server.directory} user=nexusadmin dbname=kept"
            with psycopg.connect(conninfo) as connection:
                self.assertEqual(connection.execute("SELECT current_database()").fetchone(), ("kept",))
        self.assertFalse(server.directory.exists())

    def test_worker_starts_and_outlives_its_broker(self):
        with RedisServer() as server, CeleryWorker(server.url) as worker:
            self.assertIn("tenants.tasks.announce_generation", worker.output())
            server.kill()
            server.start()
            worker.wait_connected_again()

    def test_children_get_the_tests_keys_and_no_redis(self):
        environment = child_environment(EXTRA="x", HOME=None)
        self.assertNotIn("REDIS_URL", environment)
        self.assertNotIn("HOME", environment)
        self.assertEqual(environment["EXTRA"], "x")
        self.assertIn("SECRET_KEY", environment)
