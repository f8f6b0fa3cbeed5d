"""Rules of a configuration file that never apply: no user reaches them, or another always comes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.config import Claims, PresignedToken
from relay.config.hostnames import normalise_pattern
from relay.configfile import BackendDocument, ConfigDocument, Problem
from relay.configfile.document import PortMappingDocument
from relay.configfile.problems import child
from relay.errors import InvalidValue
from relay.tokens.claims import parse_claims


def rule_warnings(document: ConfigDocument) -> Iterator[Problem]:
    """Yield each rule that no user's connection comes to, at its place in the file."""
    for index, backend in enumerate(document.backends):
        path = child("backends", index)
        for where, message in _of_backend(backend, path):
            yield document.problem(where, message)


def _of_backend(backend: BackendDocument, path: str) -> Iterator[tuple[str, str]]:
    claims = _claims(backend)
    names = [normalise_pattern(name) for name in claims.hostnames]
    claimed = {*claims.tcp_ports, *(route.port for route in claims.udp_routes)}
    where = child(path, "portMappings")
    for mapping in backend.port_mappings:
        place = child(where, str(mapping.port))
        if not names and mapping.port not in claimed:
            yield (
                place,
                f"nothing comes to port {mapping.port}: the backend has no hostname, and does not claim the port",
            )
            continue
        yield from _of_mapping(mapping, names, place, by_port=mapping.port in claimed)


def _of_mapping(
    mapping: PortMappingDocument, names: Sequence[str], place: str, *, by_port: bool
) -> Iterator[tuple[str, str]]:
    """Look at one port.

    Args:
        names: what the backend's sessions claim, in normal form.
        by_port: users may come by the port alone, and then have no hostname.
    """
    routes = {normalise_pattern(pattern) for pattern, _ in mapping.hosts}
    for pattern, _ in mapping.hosts:
        if problem := _unreached(normalise_pattern(pattern), routes, names):
            yield child(child(place, "hosts"), pattern), problem
    if mapping.default and not by_port and names and all(_covered(name, routes) for name in names):
        yield child(place, "default"), "the default is never used: each hostname of the backend has a host route"


def _unreached(pattern: str, routes: set[str], names: Sequence[str]) -> str:
    """Return why no user reaches a host route; empty where one may."""
    if pattern in names:
        return ""
    if not pattern.startswith("*."):
        if _wildcard_of(pattern) in names:
            return ""
        return f"no hostname of the backend is {pattern}, or a wildcard for it: no user reaches this route"
    under = [name for name in names if _wildcard_of(name) == pattern]
    if not under:
        return f"no hostname of the backend is under {pattern}: no user reaches this route"
    if all(name in routes for name in under):
        return f"each hostname of the backend under {pattern} has a host route of its own, which comes first"
    return ""


def _covered(name: str, routes: set[str]) -> bool:
    """Return whether every connection for this hostname matches a host route."""
    return name in routes or _wildcard_of(name) in routes


def _wildcard_of(name: str) -> str:
    label, _, parent = name.partition(".")
    return "" if label == "*" else f"*.{parent}"


def _claims(backend: BackendDocument) -> Claims:
    """Return what the backend's sessions will claim: what is in its token, where that was signed elsewhere."""
    if isinstance(backend.credential, PresignedToken):
        try:
            return parse_claims(backend.credential.token).claims
        except InvalidValue:
            pass  # the reader has said so
    return Claims(hostnames=backend.hostnames, tcp_ports=backend.tcp_ports, udp_routes=backend.udp_routes)
