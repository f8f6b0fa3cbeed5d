import ssl
from unittest import TestCase

from relay.devnode.sniff import NoHostname, Sniffed, sniff


def client_hello(name: str | None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class HttpTests(TestCase):
    def test_host_is_lower_case_without_port(self) -> None:
        self.assertEqual(
            sniff(b"GET / HTTP/1.1\r\nAccept: */*\r\nHOST:  App.Example.com:8080 \r\n\r\n"),
            Sniffed("app.example.com", False),
        )

    def test_host_is_found_before_the_headers_end(self) -> None:
        self.assertEqual(sniff(b"GET / HTTP/1.1\r\nHost: a.test\r\nX: "), Sniffed("a.test", False))

    def test_address_literals(self) -> None:
        self.assertEqual(sniff(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), Sniffed("::1", False))

    def test_more_is_needed(self) -> None:
        for data in (b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a.te"):
            self.assertIsNone(sniff(data), data)

    def test_no_host(self) -> None:
        for data in (
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\nbody\r\nHost: a.test\r\n",
            b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: b\xc3\xbccher.test\r\n\r\n",
        ):
            with self.assertRaises(NoHostname, msg=data):
                sniff(data)


class TlsTests(TestCase):
    def test_sni(self) -> None:
        self.assertEqual(sniff(client_hello("App.example.com")), Sniffed("app.example.com", True))

    def test_every_prefix_needs_more(self) -> None:
        hello = client_hello("app.example.com")
        for length in range(len(hello)):
            self.assertIsNone(sniff(hello[:length]), length)

    def test_hello_over_several_records(self) -> None:
        hello = client_hello("app.example.com")
        body = hello[5:]
        split = b"".join(hello[:3] + len(part).to_bytes(2) + part for part in (body[:3], body[3:90], body[90:]) if part)
        self.assertEqual(sniff(split), Sniffed("app.example.com", True))

    def test_no_sni(self) -> None:
        with self.assertRaises(NoHostname):
            sniff(client_hello(None))

    def test_nonsense(self) -> None:
        for data in (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03"):
            with self.assertRaises(NoHostname, msg=data):
                sniff(data)
