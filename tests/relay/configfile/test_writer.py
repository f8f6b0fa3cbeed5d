"""Tests of writing configuration files: what is written reads back."""

from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import HealthCheck, given, settings

from relay.config import HmacSecret, PresignedToken, TokenCommand
from relay.configfile import ConfigDocument, ConfigFileError, dump, parse_config, read_config_file
from tests.relay.configfile.documents import documents

CONFIGS = Path(__file__).parents[2] / "data" / "configs"


class DumpTests(SimpleTestCase):
    @settings(max_examples=75, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(documents())
    def test_what_is_written_reads_back_equal(self, document: ConfigDocument) -> None:
        text = dump(document, include_secrets=True)
        again = parse_config(text.encode(), "dump.yaml")
        self.assertEqual(again, document)
        self.assertEqual(dump(again, include_secrets=True), text)

    def test_existing_files(self) -> None:
        for name in ("attested.yaml", "token.yaml"):
            document = read_config_file(CONFIGS / name)
            self.assertEqual(parse_config(dump(document, include_secrets=True).encode(), name), document)

    def test_secrets_are_left_out_and_missed(self) -> None:
        for name in ("attested.yaml", "token.yaml"):
            document = read_config_file(CONFIGS / name)
            text = dump(document)
            self.assertNotRegex(text, "not a real secret|eyJ|--backend|authorizer.example.com")
            secret = [isinstance(b.credential, PresignedToken | HmacSecret | TokenCommand) for b in document.backends]
            with self.assertRaises(ConfigFileError) as raised:
                parse_config(text.encode(), name)
            self.assertEqual(len(raised.exception.problems), sum(secret))

    def test_an_empty_document(self) -> None:
        self.assertEqual(dump(ConfigDocument(())), "backends: []\n")
