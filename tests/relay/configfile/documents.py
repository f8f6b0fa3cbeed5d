"""Hypothesis strategies for configuration documents, shared with the registry's import and export tests."""

from __future__ import annotations

import jwt
from hypothesis import strategies as st

from relay.config import (
    AttestationOptions,
    Credential,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    Limits,
    PresignedToken,
    Removal,
    RemovalMode,
    TokenCommand,
    UdpRoute,
)
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.configfile import BackendDocument, ConfigDocument, PortMappingDocument

TOKEN_KEY = "example-key-that-signs-nothing-real-0123456789"
PORTS = st.integers(1, 65535)
SECONDS = st.integers(0, 2**31 - 1)
LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.builds("{}.example.com".format, LABELS) | st.builds("*.{}.example".format, LABELS) | st.just("localhost")
TARGETS = (
    st.builds("localhost:{}".format, PORTS)
    | st.builds("[::1]:{}".format, PORTS)
    | st.builds("unix:/run/{}.sock".format, LABELS)
    | st.builds("a.example:{0},b.example:{0}".format, PORTS)
)
# Texts that YAML could take for something else, and texts with every kind of character.
TEXTS = st.sampled_from(["yes", "0443", "1e3", "~", "null", "# no", "a: b", "-", "<<", "2026-01-01", "1:30", "'", '"'])
FREE = TEXTS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
LINES = TEXTS | st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


def token(**claims: object) -> str:
    """Return a well-formed token that no node takes."""
    return jwt.encode({"exp": 4102444800, **claims}, TOKEN_KEY, algorithm="HS256")


TOKENS = st.builds(lambda names: PresignedToken(token(hostnames=names)), st.lists(NAMES, max_size=3))
COMMANDS = st.builds(
    TokenCommand,
    LINES.filter(lambda text: text not in ("~", "null")),
    st.lists(FREE, max_size=3).map(tuple),
    st.dictionaries(LABELS | st.sampled_from(["yes", "<<", "0443", "~"]), FREE, max_size=3).map(
        lambda env: tuple(sorted(env.items()))
    ),
    st.integers(1, 600).map(float),
)
SECRETS = FREE.map(str.strip).filter(bool)
CREDENTIALS: st.SearchStrategy[Credential] = TOKENS | SECRETS.map(HmacSecret) | LINES.map(HmacSecretFile) | COMMANDS
COUNTS = st.integers(1, 2**31 - 1)
ACCESS = st.builds(
    AccessList,
    st.sampled_from([(), ("192.0.2.0/24",), ("2001:db8::/32", "192.0.2.7/32")]),
    st.sampled_from([(), ("198.51.100.0/24",)]),
    st.sampled_from(AccessMode),
)
# Version 1 of the PROXY protocol is refused for ports that are claimed for UDP.
OPTIONS = st.just(PortOptions()) | st.builds(
    PortOptions,
    st.sampled_from([ProxyProtocol.NONE, ProxyProtocol.V2]),
    st.sampled_from(TargetOrder),
    ACCESS,
    st.builds(TargetHealth, SECONDS.map(float), COUNTS.map(float), COUNTS, COUNTS),
    st.integers(1, 60).map(float),
)
MAPPINGS = st.dictionaries(
    PORTS,
    st.tuples(st.none() | TARGETS, st.dictionaries(NAMES, TARGETS, max_size=4), OPTIONS).filter(
        lambda found: any(found[:2])
    ),
    min_size=1,
    max_size=4,
).map(
    lambda found: tuple(
        PortMappingDocument(port, default, tuple(sorted(hosts.items())), options)
        for port, (default, hosts, options) in sorted(found.items())
    )
)
MARKS = st.lists(st.integers(1, 2**31 - 1), min_size=3, max_size=3, unique=True).map(sorted)


@st.composite
def backends(draw: st.DrawFn, name: str, names: st.SearchStrategy[str] = NAMES) -> BackendDocument:
    """A backend that a file can hold."""
    credential = draw(CREDENTIALS)
    attested = not isinstance(credential, PresignedToken)
    low, high, largest = draw(MARKS)
    outbound = attested and draw(st.booleans())
    return BackendDocument(
        name=name,
        hostnames=tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True))),
        nexus_addresses=tuple(
            f"wss://{host}.example.net/connect" for host in draw(st.lists(LABELS, min_size=1, max_size=3, unique=True))
        ),
        port_mappings=draw(MAPPINGS),
        credential=credential,
        tcp_ports=tuple(sorted(draw(st.sets(PORTS, max_size=3)))),
        udp_routes=tuple(
            UdpRoute(port, timeout)
            for port, timeout in sorted(
                draw(st.dictionaries(PORTS, st.none() | st.integers(1, 2**31 - 1), max_size=3)).items()
            )
        ),
        weight=draw(st.integers(1, 2**31 - 1)),
        attestation=AttestationOptions(
            draw(st.integers(1, 900)),
            *[draw(SECONDS) for _ in range(5)],
            draw(st.just("") | st.builds("https://{}/status".format, NAMES)),
            draw(st.just("") | LINES),
        )
        if attested
        else AttestationOptions(),
        outbound_allowed=outbound,
        allowed_outbound_ports=tuple(sorted(draw(st.sets(PORTS, max_size=3)))) if outbound else (),
        health_checks=HealthCheckOptions(
            draw(st.booleans()), float(draw(st.integers(1, 900))), float(draw(st.integers(1, 900)))
        ),
        flow_control=FlowControlOptions(high_water=high, low_water=low, max_buffer=largest),
        socks5_listen=draw(st.sampled_from(["", "127.0.0.1:1080", "[::1]:1080"])),
        limits=draw(st.builds(Limits, *[st.just(0) | COUNTS] * 4)),
        removal=draw(st.builds(Removal, st.sampled_from(RemovalMode), st.none() | SECONDS.map(float))),
    )


@st.composite
def documents(draw: st.DrawFn) -> ConfigDocument:
    """A file of one to four backends."""
    names = draw(st.lists(LINES, min_size=1, max_size=4, unique=True))
    return ConfigDocument(tuple(draw(backends(name)) for name in names))
