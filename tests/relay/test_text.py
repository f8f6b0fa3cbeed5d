import codecs
from unittest import TestCase

from relay.text import decode


class DecodeTests(TestCase):
    def test_what_editors_write(self) -> None:
        for data in (
            "é".encode(),
            codecs.BOM_UTF8 + "é".encode(),
            "é".encode("utf-16"),
            codecs.BOM_UTF16_BE + "é".encode("utf-16-be"),
        ):
            self.assertEqual(decode(data), "é", data)
        for data in (b"\xff\xff", b"\xfe\xff\x00", "é".encode("latin-1")):
            self.assertRaises(UnicodeDecodeError, decode, data)
