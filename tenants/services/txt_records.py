"""Look-ups of TXT records, in the system's DNS servers or those of settings.DNS_RESOLVERS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    import dns.resolver  # slow to import, and needed by workers only


@dataclass(frozen=True, slots=True)
class TxtAnswer:
    """What the DNS answered.

    Attributes:
        values: texts of the TXT records.
        problem: why no record was found; empty where one was.
        failed: no server could be asked, so that the record may well exist.
    """

    values: frozenset[str] = frozenset()
    problem: str = ""
    failed: bool = False


def look_up(name: str) -> TxtAnswer:
    """Ask for the TXT records of exactly this name.

    No alias is followed: behind a wildcard's CNAME is another party's server, whose records prove nothing here.
    """
    import dns.exception
    import dns.resolver

    try:
        found = _resolver().resolve(name, "TXT", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return TxtAnswer(
            problem=f"There is no TXT record at {name}. Resolvers may remember for a while that there was none."
        )
    except dns.exception.Timeout:
        return TxtAnswer(
            problem=f"No DNS server answered for {name} within {settings.DNS_TIMEOUT} seconds.", failed=True
        )
    except (dns.exception.DNSException, OSError) as error:
        return TxtAnswer(
            problem=f"The DNS servers do not answer properly for {name} ({type(error).__name__}).", failed=True
        )
    if found.canonical_name != found.qname:
        return TxtAnswer(problem=f"{name} is an alias (CNAME or DNAME): put a TXT record there itself.")
    return TxtAnswer(frozenset(b"".join(record.strings).decode("utf-8", "replace") for record in found))


def _resolver() -> dns.resolver.Resolver:
    import dns.nameserver
    import dns.resolver

    own = settings.DNS_RESOLVERS
    resolver = dns.resolver.Resolver(configure=not own)
    if own:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in own]
    resolver.lifetime = float(settings.DNS_TIMEOUT)
    return resolver
