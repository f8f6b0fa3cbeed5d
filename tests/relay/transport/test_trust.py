"""Tests of relay.transport.trust: CA certificates that change."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
import threading
from pathlib import Path
from unittest import TestCase, mock

from relay.config import NodeConfig
from relay.devnode import DevNode
from relay.transport import trust
from relay.transport.opening import ConnectFailed, NodeDialer
from relay.transport.trust import Trust
from tests.relay.transport.test_connection import QUICK, Listener
from tests.support.relays import on_both_loops, recorded_logs


class ChangingFileTests(TestCase):
    def setUp(self) -> None:
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "ca.pem"
        self.enterContext(mock.patch.dict(os.environ, SSL_CERT_FILE=str(self.file)))
        self.enterContext(mock.patch.object(trust, "CHECK_EVERY", 0.0))
        self.logs = self.enterContext(recorded_logs())

    async def opens(self, dialer: NodeDialer, node: DevNode) -> bool:
        try:
            connection = await dialer.open(NodeConfig(node.address), Listener())
        except ConnectFailed as failure:
            self.assertIn("is not trusted", str(failure))
            return False
        connection.disown()
        return True

    @on_both_loops
    async def test_the_next_session_goes_by_the_new_file(self) -> None:
        async with DevNode() as node, DevNode() as other:
            self.file.write_text(other.ca_pem)
            dialer = NodeDialer(timings=QUICK)
            self.assertEqual((await self.opens(dialer, node), await self.opens(dialer, other)), (False, True))
            self.file.write_text(node.ca_pem + other.ca_pem)
            self.assertEqual((await self.opens(dialer, node), await self.opens(dialer, other)), (True, True))
            self.assertIn("read again", self.logs.text())
            # Replaced by another file, as a mounted secret is.
            new = self.file.with_name("new")
            new.write_text(other.ca_pem)
            new.replace(self.file)
            self.assertEqual((await self.opens(dialer, node), await self.opens(dialer, other)), (False, True))

    @on_both_loops
    async def test_a_file_without_a_certificate_changes_nothing(self) -> None:
        async with DevNode() as node:
            self.file.write_text(node.ca_pem)
            dialer = NodeDialer(timings=QUICK)
            self.assertTrue(await self.opens(dialer, node))
            said = "those from before serve on"
            before = self.logs.text().count(said)  # both loops write here
            self.file.write_text(node.ca_pem[:100])
            for _ in range(3):
                self.assertTrue(await self.opens(dialer, node))
            self.assertEqual(self.logs.text().count(said), before + 1)
            self.file.unlink()
            self.assertTrue(await self.opens(dialer, node))
            self.assertEqual(self.logs.text().count(said), before + 2)
            self.file.write_text(node.ca_pem)
            self.assertTrue(await self.opens(dialer, node))
            self.assertIn("read again", self.logs.text())

    @on_both_loops
    async def test_a_directory_that_changes(self) -> None:
        async with DevNode() as node:
            with mock.patch.dict(os.environ, SSL_CERT_DIR=str(self.file.parent)):
                store = Trust()
                first = await store.context(None)
                self.assertIs(await store.context(None), first)
                first.load_verify_locations(cadata=node.ca_pem)  # as OpenSSL does when it meets a node
                (self.file.parent / "0123abcd.0").write_text(node.ca_pem)
                self.assertIsNot(await store.context(None), first)
            (self.file.parent / "0123abcd.0").unlink()

    @on_both_loops
    async def test_what_has_not_changed_is_read_once(self) -> None:
        async with DevNode() as node:
            self.file.write_text(node.ca_pem)
            store = Trust()
            first = await store.context(None)
            self.assertIs(await store.context(""), first)
            own = await store.context(node.ca_pem)
            self.assertIs(await store.context(node.ca_pem), own)
            self.assertIsNot(own, first)
            with self.assertRaises(ssl.SSLError):
                await store.context("no certificate")
            # A certificate that is not trusted lets it be read again, whatever the file's times say; now and then.
            store.failed(first)
            self.assertIs(await store.context(None), first)
            store._read_at -= trust.AGAIN_AFTER_FAILURE
            store.failed(own)
            self.assertIs(await store.context(None), first)
            store.failed(first)
            self.assertIsNot(await store.context(None), first)

    @on_both_loops
    async def test_a_disk_that_hangs_lets_the_earlier_serve_on(self) -> None:
        store, release, real = Trust(), threading.Event(), trust._stamp
        hanging = threading.active_count()
        first = await store.context(None)

        def hang() -> trust.Stamp:
            release.wait(60)
            return real()

        with mock.patch.object(trust, "_stamp", hang), mock.patch.object(trust, "PATIENCE", 0.01):
            found = await asyncio.gather(*(store.context(None) for _ in range(10)))
            self.assertEqual(set(found), {first})
            self.assertLessEqual(threading.active_count(), hanging + 1, "one thread for all")
            release.set()
            assert store._reading is not None
            await store._reading
