import ssl
import stat
import tempfile
from pathlib import Path
from unittest import TestCase

from relay.devnode.certificate import ensure_certificate


class CertificateTests(TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name) / "node"

    def test_the_ca_stays_the_same(self) -> None:
        first = ensure_certificate(self.directory).ca_pem
        self.assertEqual(ensure_certificate(self.directory).ca_pem, first)

    def test_a_broken_leaf_is_made_again_by_the_same_ca(self) -> None:
        first = ensure_certificate(self.directory).ca_pem
        (self.directory / "node.pem").write_text("broken")
        again = ensure_certificate(self.directory)
        self.assertEqual(again.ca_pem, first)
        self.assertIsInstance(again.server_context(), ssl.SSLContext)

    def test_keys_are_private(self) -> None:
        ensure_certificate(self.directory)
        for name in ("ca-key.pem", "node-key.pem"):
            self.assertEqual(stat.S_IMODE((self.directory / name).stat().st_mode), 0o600)

    def test_the_chain_holds_for_every_name_of_this_machine(self) -> None:
        certificate = ensure_certificate(self.directory)
        for name in ("localhost", "127.0.0.1", "::1"):
            _handshake(certificate.server_context(), ssl.create_default_context(cadata=certificate.ca_pem), name)

    def test_it_is_for_no_other_name(self) -> None:
        certificate = ensure_certificate(self.directory)
        with self.assertRaises(ssl.SSLCertVerificationError):
            _handshake(
                certificate.server_context(), ssl.create_default_context(cadata=certificate.ca_pem), "example.com"
            )


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
