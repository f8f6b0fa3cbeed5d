"""Tests of relay.devnode.hub: what leaves over the socket."""

from __future__ import annotations

from unittest import mock

from relay.devnode.hub import HubConnection
from tests.relay.devnode.test_streams import StreamTestCase


class RecordTests(StreamTestCase):
    async def test_connect_and_the_first_data_leave_in_records_of_their_own(self) -> None:
        node = await self.node()
        client = await self.client(node)
        records: list[bytes] = []
        write = HubConnection._write

        def recorded(connection: HubConnection, data: bytes) -> None:
            records.append(data)
            write(connection, data)

        with mock.patch.object(HubConnection, "_write", recorded):
            await self.stream(node, client)
        self.assertEqual([record[0] for record in records], [0x17, 0x17], "TLS records with data")
        for record in records:
            self.assertEqual(int.from_bytes(record[3:5], "big") + 5, len(record), "one record, and nothing more")
