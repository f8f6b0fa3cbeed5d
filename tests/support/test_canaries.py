import base64
import gzip
from urllib.parse import quote

from django.test import SimpleTestCase

from tests.support.canaries import Canaries


class CanariesTests(SimpleTestCase):
    def test_found_in_whatever_form_and_in_pieces(self):
        canaries = Canaries()
        made = canaries.make("made", extra="/é <&")
        token = canaries.add("token", "aGVhZA.cGF5bG9hZC1vZi1hLXRva2Vu.c2lnbmF0dXJlLW9mLWEtdG9rZW4")
        for text in (made, made[:14], made[-14:], token, token.rpartition(".")[2]):
            raw = text.encode()
            for content in (
                text,
                quote(text, safe=""),
                raw.hex(),
                text.encode("utf-16-le"),
                *(base64.b64encode(b"x" * shift + raw + b"yy") for shift in range(3)),
                *(base64.urlsafe_b64encode(b"\xff" * shift + raw) for shift in range(3)),
            ):
                with self.subTest(text, content=content):
                    around = content if isinstance(content, bytes) else content.encode()
                    self.assertTrue(list(canaries.hits("page", b"before " + around + b" after")))

    def test_a_hit_names_the_secret_and_does_not_hold_it(self):
        canaries = Canaries()
        made = canaries.make("password")
        (hit,) = canaries.hits("log", f"here it is: {made}")
        self.assertIn("log: password, plain, at byte 12", hit)
        self.assertNotIn(made, hit)

    def test_counts_what_it_searched(self):
        canaries = Canaries()
        canaries.make("password")
        self.assertEqual(list(canaries.hits("a", "nothing here")), [])
        self.assertEqual(list(canaries.hits("b", gzip.compress(b"nothing"))), [])
        self.assertEqual((canaries.artefacts, canaries.searched), (2, 12 + len(gzip.compress(b"nothing"))))
