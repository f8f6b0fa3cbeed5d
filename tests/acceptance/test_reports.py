"""What the tester says is what happens: registry, relay and node as processes of their own, real users and targets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.test import TransactionTestCase, tag
from django.utils import timezone

from tenants.changes.fingerprints import fingerprint
from tenants.models import Backend, BackendUsage, Credential, CredentialUse, PortMapping, RelayProcess, RelaySession
from tests.support.lab import HOST, PUBLIC_PORT, SECRET, Lab, lab
from tests.support.targets import HttpTarget
from tests.support.users import http_get

REPORTS = ("--name", "lab-relay", "--report-interval", "1")


def resolved(host: str, *options: str) -> dict[str, Any]:
    out = StringIO()
    try:
        call_command("resolve", host, str(PUBLIC_PORT), "--json", *options, stdout=out)
    except SystemExit:
        pass
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@tag("slow")
class ReportsTests(TransactionTestCase):
    async def until(self, place: Lab, condition: Any, what: str) -> None:
        async with asyncio.timeout(30):
            while not await place.edit(condition):
                await asyncio.sleep(0.05)

    async def test_the_tester_and_the_traffic_agree(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address, relay_arguments=REPORTS) as place:
            await self.until(place, lambda: RelaySession.objects.live().exists(), "the session is known")

            async def check(host: str, served: bool, *options: str) -> dict[str, Any]:
                """Compare what a user gets with what is said."""
                name = await place.name_now(host)
                said = await place.edit(lambda: resolved(host, "--client-ip", "127.0.0.1", *options))
                serving = [each for each in said["backends"] if each["verdict"] == "serves"]
                self.assertEqual((name == "blue", bool(serving)), (served, served), (host, said))
                return said

            said = await check(HOST, True, "--dial")
            (found,) = said["backends"]
            self.assertEqual((said["live"], found["claim"], found["targets"]), (True, HOST, blue.address))
            self.assertEqual(found["sessions"][0]["relay"], "lab-relay")
            self.assertEqual(found["sessions"][0]["fingerprint"], fingerprint(SECRET))
            self.assertEqual((found["dials"][0]["target"], found["dials"][0]["problem"]), (blue.address, ""))
            await check("any.preview.example.com", True)
            await check("a.b.preview.example.com", False)
            await check("preview.example.com", False)
            await check("nobody.example.net", False)
            await place.edit(lambda: PortMapping.objects.update(access_deny="127.0.0.0/8"))
            await self.until_name(place, "")
            await check(HOST, False)
            await place.edit(lambda: PortMapping.objects.update(access_deny=""))
            await self.until_name(place, "blue")
            await place.edit(lambda: PortMapping.objects.update(public_port=81))
            await self.until_name(place, "")
            said = await check(HOST, False)
            self.assertIn("It maps tcp 81, and not tcp 80", said["backends"][0]["why"])
            await place.edit(lambda: PortMapping.objects.update(public_port=80, default_target="127.0.0.1:1"))
            said = await place.edit(lambda: resolved(HOST, "--dial"))
            self.assertIn("refused", said["backends"][0]["dials"][0]["problem"])
            await place.edit(lambda: Backend.objects.update(enabled=False))
            await self.until(place, lambda: not RelaySession.objects.live().exists(), "the session ended")
            await check(HOST, False)

    async def until_name(self, place: Lab, name: str) -> None:
        async with asyncio.timeout(20):
            while await place.name_now() != name:
                await asyncio.sleep(0.05)

    async def test_a_relay_that_is_killed_and_one_that_is_stopped(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address, relay_arguments=REPORTS) as place:
            for _ in range(5):
                self.assertEqual(await place.name_now(), "blue")
            await self.until(place, lambda: sum_of("streams") == 5, "five streams")
            await self.until(place, CredentialUse.objects.exists, "the credential was used")
            relay = place.relay
            assert relay is not None
            os.kill(relay.pid, signal.SIGKILL)
            place.start_relay(*REPORTS)
            await place.until_up()
            served = 0
            while served < 3:  # the node gives the dead session its turns for a while
                with contextlib.suppress(TimeoutError):
                    served += (await http_get(place.http_port, HOST, "/name", timeout=1.0)).body == b"blue"
            await self.until(place, lambda: sum_of("streams") == 8, "what came after is added")
            self.assertEqual(await place.edit(RelayProcess.objects.count), 2)
            place.relay.stop()
            left = await place.edit(lambda: [str(each) for each in RelayProcess.objects.all()])
            self.assertEqual(left, ["lab-relay"], "the killed one's")
            await place.edit(lambda: RelayProcess.objects.update(expires_at=timezone.now()))
            self.assertEqual(await place.edit(lambda: RelaySession.objects.live().count()), 0)

    async def test_workers_each_tell_of_theirs(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address, relay_arguments=(*REPORTS, "--workers", "2")) as place:
            await self.until(place, lambda: RelayProcess.objects.count() == 2, "both workers")
            await self.until(place, lambda: RelaySession.objects.live().count() == 1, "one session")
            self.assertEqual(await place.name_now(), "blue")
            await self.until(place, lambda: sum_of("streams") == 1, "one stream")
            workers = await place.edit(lambda: sorted(RelayProcess.objects.values_list("worker", flat=True)))
            self.assertEqual(workers, ["0/2", "1/2"])
            assert place.relay is not None
            place.relay.stop()
            self.assertEqual(await place.edit(RelayProcess.objects.count), 0)

    async def test_without_reports(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address, relay_arguments=("--no-reports",)) as place:
            self.assertEqual(await place.name_now(), "blue")
            assert place.relay is not None
            place.relay.stop()
            self.assertEqual(await place.edit(lambda: RelayProcess.objects.count() + BackendUsage.objects.count()), 0)
            self.assertEqual(await place.edit(Credential.objects.count), 1)


def sum_of(name: str) -> int:
    return sum(BackendUsage.objects.values_list(name, flat=True))
