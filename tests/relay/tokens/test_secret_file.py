import asyncio
import os
import tempfile
import threading
from pathlib import Path
from unittest import IsolatedAsyncioTestCase, mock

from relay.tokens.issuer import TokenError
from relay.tokens.secret_file import SecretFile


class SecretFileTests(IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "key"

    async def test_the_text_is_the_secret(self) -> None:
        for written in (
            b"s3cret",
            b" s3cret\r\n",
            b"\xef\xbb\xbfs3cret\n",
            "s3cret\r\n".encode("utf-16"),
            b"\xfe\xff" + "s3cret".encode("utf-16-be"),
        ):
            with self.subTest(written):
                self.path.write_bytes(written)
                self.assertEqual(await SecretFile(str(self.path)).read(), "s3cret")

    async def test_one_that_gives_no_answer_holds_up_itself_alone(self) -> None:
        os.mkfifo(self.path)
        hanging = SecretFile(str(self.path), within=0.01)
        threads = threading.active_count()
        for _ in range(3):
            with self.assertRaisesRegex(TokenError, "gives no answer"):
                await hanging.read()
        self.assertEqual(threading.active_count(), threads + 1)
        other = self.path.with_name("other")
        other.write_text("s3cret")
        self.assertEqual(await SecretFile(str(other)).read(), "s3cret")
        with self.path.open("w") as pipe:  # now it answers
            pipe.write("late")
        async with asyncio.timeout(10):
            while True:
                try:
                    self.assertEqual(await hanging.read(), "late")
                except TokenError:
                    continue
                break

    async def test_those_who_ask_at_once_share_a_read(self) -> None:
        os.mkfifo(self.path)
        file = SecretFile(str(self.path))
        asked = [asyncio.create_task(file.read()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(self.path.write_text, "s3cret")
        self.assertEqual(await asyncio.gather(*asked), ["s3cret"] * 3)

    async def test_where_there_is_no_thread_it_cannot_be_read(self) -> None:
        self.path.write_text("s3cret")
        file = SecretFile(str(self.path))
        with (
            mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
            self.assertRaisesRegex(TokenError, "cannot read the HMAC secret file .*can't start new thread"),
        ):
            await file.read()
        self.assertEqual(await file.read(), "s3cret")
