"""Celery's broker: each kind of Redis address against a real server, and a failover under a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import redis
from django.test import SimpleTestCase, TransactionTestCase
from kombu import Connection
from kombu.exceptions import OperationalError

from nexusadmin.environment import broker_url
from relay.devnode.certificate import ensure_certificate
from tests.support.celery_worker import CeleryWorker
from tests.support.raw_server import raw_server
from tests.support.redis import RedisServer

VERIFIED = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


class BrokerUrlTests(TestCase):
    def test_unix_sockets_in_kombus_words(self) -> None:
        for given, expected in (
            ("", ""),
            ("redis://:secret@h:6379/1", "redis://:secret@h:6379/1"),
            ("rediss://h:6379/1?ssl_ca_certs=/ca.pem", "rediss://h:6379/1?ssl_ca_certs=/ca.pem"),
            ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
            ("unix://u:s%40t@/run/redis.sock?db=3", "redis+socket://u:s%40t@/run/redis.sock?virtual_host=3"),
        ):
            with self.subTest(given):
                self.assertEqual(broker_url(given), expected)


class AddressTests(SimpleTestCase):
    def ping(self, url: str, **options: object) -> None:
        with Connection(broker_url(url), transport_options={"max_retries": 0}, **options) as connection:
            connection.default_channel.client.ping()

    def test_a_unix_socket(self) -> None:
        with tempfile.TemporaryDirectory() as folder, RedisServer(unixsocket=f"{folder}/redis.sock") as server:
            redis.Redis(port=server.port).config_set("requirepass", "s@cret")
            self.ping(f"unix://:s%40cret@{folder}/redis.sock?db=2")
            with self.assertRaisesRegex(OperationalError, "Authentication required"):
                self.ping(f"unix://{folder}/redis.sock")

    def test_a_certificate_that_is_not_trusted_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
            certificate = ensure_certificate(Path(folder))
            with tls_in_front_of(server.port, certificate.server_context()) as port:
                address = f"rediss://localhost:{port}/0"
                with self.assertRaisesRegex(OperationalError, "certificate verify failed"):
                    self.ping(address, ssl=VERIFIED)
                self.ping(f"{address}?ssl_ca_certs={certificate.ca_file}", ssl=VERIFIED)


@contextlib.contextmanager
def tls_in_front_of(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Give the port of a server that decrypts for the one at another port."""
    ready, told = threading.Event(), []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, other_writer), pass_on(other_reader, writer))

    async def main() -> None:
        stop = asyncio.Event()
        async with raw_server(serve, context) as port_of_tls:
            told.extend([port_of_tls, asyncio.get_running_loop(), stop])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    ready.wait()
    try:
        yield told[0]
    finally:
        told[1].call_soon_threadsafe(told[2].set)
        thread.join()


class FailoverTests(TransactionTestCase):
    def test_a_worker_outlives_a_failover(self) -> None:
        with RedisServer() as server, CeleryWorker(server.url) as worker:
            client = redis.Redis(port=server.port)
            client.replicaof("127.0.0.1", "1")  # a primary that does not answer
            worker.wait_said("Connection to broker lost")
            client.replicaof("NO", "ONE")
            worker.wait_connected_again()
            self.assertNotIn("Unrecoverable", worker.output())
