"""Where targets may be, from a row of the registry to users: relays of a site, in two worker processes."""

from __future__ import annotations

import asyncio

from django.test import TransactionTestCase

from tenants.models import OPEN_POLICY, Site, Tenant
from tests.support.lab import HOST, Lab, lab
from tests.support.targets import HttpTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until


class TargetPolicyTests(TransactionTestCase):
    async def until(self, place: Lab, name: str) -> None:
        """Wait until new streams end at the target of this name; the empty one for none."""
        async with asyncio.timeout(20):
            while await place.name_now() != name:
                await asyncio.sleep(0.02)

    async def test_bounds_of_tenant_and_site_reach_live_relays(self) -> None:
        async with HttpTarget("blue") as blue:
            arguments = ("--site", "north", "--workers", "2", "--poll-interval", "0.1")
            async with lab(blue.address, relay_arguments=arguments) as place:
                relay = place.relay
                assert relay is not None
                await self.until(place, "blue")
                async with TcpUser(place.http_port) as user:
                    await user.send(request_head(HOST, "/echo") + b"before")
                    await user.receive(6)

                    await place.edit(lambda: Tenant.objects.update(target_networks="usual"))
                    await self.until(place, "")
                    accepted = blue.accepted
                    self.assertEqual(await place.name_now(), "")
                    self.assertEqual(blue.accepted, accepted, "nothing is dialled")
                    await async_wait_until(
                        lambda: "have an operator allow the tenant 127.0.0.1" in relay.output(), "the log says why"
                    )
                    self.assertIn(f'"target": "{blue.address}"', relay.output())

                    await place.edit(lambda: Tenant.objects.update(target_networks="usual, 127.0.0.1"))
                    await self.until(place, "blue")
                    site = await place.edit(lambda: Site.objects.create(slug="north"))
                    await self.until(place, "")
                    await place.edit(lambda: Site.objects.filter(pk=site.pk).update(**OPEN_POLICY))
                    await self.until(place, "blue")
                    await place.edit(lambda: Site.objects.create(slug="south"))
                    self.assertEqual(await place.name_now(), "blue")

                    await user.send(b"after")
                    self.assertEqual(await user.receive(5), b"after", "the live stream went on")
                self.assertEqual(relay.output().count('"session up"'), 1, "no edit touched the session")
