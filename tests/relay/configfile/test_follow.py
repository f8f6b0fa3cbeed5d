"""Tests of following a configuration file."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import IsolatedAsyncioTestCase, mock

from relay.config import RelayConfig
from relay.configfile import ConfigFileError
from relay.configfile.follow import FileSource, Signature
from tests.support.relays import recorded_logs
from tests.support.waiting import async_wait_until

BACKEND = """
  - name: {name}
    hostnames: [{name}.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {{hmacSecretFile: /etc/nexus/key}}
    portMappings: {{443: "localhost:8443"}}
"""


def text(*names: str) -> str:
    return "backends:" + "".join(BACKEND.format(name=name) for name in names)


def names(config: RelayConfig) -> list[str]:
    return sorted(backend.name for backend in config.backends.values())


class FollowTests(IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name) / "backends.yaml"
        settled = mock.patch("relay.configfile.follow.SETTLED", 0.002)
        settled.start()
        self.addCleanup(settled.stop)

    def replace(self, content: str) -> None:
        """Put another file in its place, as editors do."""
        beside = self.file.with_suffix(".new")
        beside.write_text(content)
        beside.replace(self.file)

    @asynccontextmanager
    async def followed(self, source: FileSource) -> AsyncIterator[list[list[str]]]:
        """Collect the names in each configuration that the source yields."""
        found: list[list[str]] = []

        async def follow() -> None:
            async for config in source.configs():
                found.append(names(config))

        task = asyncio.create_task(follow())
        try:
            await async_wait_until(lambda: found, "the first reading")
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def test_what_can_not_be_used_leaves_what_was_read_before(self) -> None:
        self.file.write_text(text("a"))
        with recorded_logs() as logs:
            async with self.followed(FileSource(str(self.file), interval=0.002)) as found:

                async def told(times: int) -> None:
                    await async_wait_until(lambda: len(logs.records) == times, "the problem in the log")

                self.replace(text("a", "b"))
                await async_wait_until(lambda: len(found) == 2, "the second reading")
                self.file.write_text(text("a", "b")[:-4])
                await told(1)
                self.file.unlink()
                await told(2)
                self.file.mkdir()
                await told(3)
                self.file.rmdir()
                await told(4)
                self.file.write_text(text("c"))
                await async_wait_until(lambda: len(found) == 3, "the third reading")
        self.assertEqual(found, [["a"], ["a", "b"], ["c"]])
        for record, problem in zip(
            logs.records, ("not YAML", "does not exist", "is a directory", "does not exist"), strict=True
        ):
            self.assertIn("goes on with what it had", record.getMessage())
            self.assertIn(problem, record.getMessage())
            self.assertNotIn("\n", record.getMessage())

    async def test_a_file_that_is_being_written_is_read_when_that_is_over(self) -> None:
        self.file.write_text(text("a", "b", "c", "d"))
        parts = iter([text("a"), *(BACKEND.format(name=name) for name in "bcd")])

        class WrittenMeanwhile(FileSource):
            """Between any two looks at the file more of it is written: each time it is whole, as far as it goes."""

            def _signature(self) -> Signature:
                before = super()._signature()
                if found and (part := next(parts, None)) is not None:
                    with open(self._path, "w" if part.startswith("backends") else "a") as file:
                        file.write(part)
                return before

        found: list[list[str]] = []
        async with self.followed(WrittenMeanwhile(str(self.file), interval=0.002)) as readings:
            found.append(["written meanwhile from here on"])
            await async_wait_until(lambda: len(readings) == 2, "the second reading")
        self.assertEqual(readings, [["a", "b", "c", "d"]] * 2)

    async def test_each_warning_is_told_once(self) -> None:
        odd = text("a").replace('"localhost:8443"', '":8443"')
        self.file.write_text(odd)
        with recorded_logs() as logs:
            async with self.followed(FileSource(str(self.file), interval=0.002)) as found:
                self.replace("# moved\n" + odd)
                await async_wait_until(lambda: len(found) == 2, "the second reading")
                self.replace(odd.replace(":8443", ":08443"))
                await async_wait_until(lambda: len(found) == 3, "the third reading")
            async with self.followed(FileSource(str(self.file), warns=False)):
                pass
        self.assertEqual(
            [record.getMessage().partition("portMappings.443: ")[2] for record in logs.records],
            ["is taken as localhost:8443"],
        )

    async def test_one_that_looks_the_same_is_read_when_asked(self) -> None:
        self.file.write_text(text("a"))
        source = FileSource(str(self.file), interval=3600)
        async with self.followed(source) as found:
            for count in (2, 3):
                source.reload()
                await async_wait_until(lambda count=count: len(found) == count, "another reading")

    async def test_the_first_reading_must_succeed(self) -> None:
        with self.assertRaisesRegex(ConfigFileError, "does not exist"):
            await anext(FileSource(str(self.file)).configs())
