"""A small DNS server on loopback, for TXT records."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL = 60


class DnsServer:
    """Answers over UDP what `zone` holds; the tests change it while it runs.

    Attributes:
        zone: TXT records by name, without the dot at its end. None lets the server fail, "" keeps it silent, any other
            text is an alias's end.
        asked: names that were asked for, in order.
    """

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str | None] = {}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            wire, sender = self._socket.recvfrom(4096)
            if not wire:
                return
            answer = self._answer(dns.message.from_wire(wire))
            if answer is not None:
                self._socket.sendto(answer.to_wire(), sender)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        held = self.zone.get(name, [])
        if held == "":
            return None
        if held is None:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif isinstance(held, str):
            answer.answer.append(dns.rrset.from_text(question.name, TTL, "IN", "CNAME", f"{held}."))
            end = self.zone.get(held)
            if isinstance(end, list):
                answer.answer.append(_txt(f"{held}.", end))
        elif held:
            answer.answer.append(_txt(question.name.to_text(), held))
        elif name not in self.zone:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


def _txt(name: str, values: list[str]) -> dns.rrset.RRset:
    quoted = [" ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200)) for value in values]
    return dns.rrset.from_text(name, TTL, "IN", "TXT", *quoted)
