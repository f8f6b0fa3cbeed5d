"""What a relay would do, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator

from relay.config import (
    BackendConfig,
    Credential,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    RelayConfig,
    TokenCommand,
    TokenProvider,
)
from relay.config.addresses import is_loopback
from relay.config.port_options import DIAL_TIMEOUT, AccessMode, PortOptions, TargetOrder
from relay.config.target_policy import TargetPolicy, target_refusal
from relay.config.targets import parse_target, parse_targets
from relay.errors import InvalidValue
from relay.routing import PortRoutes
from relay.tokens.claims import parse_claims
from relay.tokens.sources import session_claims

_NOT_ON_LOOPBACK = " (not opened: it is not on loopback, and ALLOW_SOCKS5_BEYOND_LOOPBACK is off)"


def describe(config: RelayConfig, socks5_beyond_loopback: bool = False) -> str:
    """Return a text that says, for each backend, which sessions would be opened and where streams would go.

    Args:
        socks5_beyond_loopback: as the relay's own (`relay.relay.Relay`).
    """
    lines: list[str] = []
    sessions = 0
    for backend in sorted(config.backends.values(), key=lambda backend: (backend.tenant, backend.name)):
        problem = _problem(backend)
        sessions += 0 if problem else len(backend.nodes)
        lines += _backend(backend, problem)
        if backend.socks5_listen:
            opened = socks5_beyond_loopback or is_loopback(parse_target(backend.socks5_listen).host)
            lines.append(f"  SOCKS5 at {backend.socks5_listen}{'' if opened else _NOT_ON_LOOPBACK}")
    lines.append(f"{_count(len(config.backends), 'backend')}, {_count(sessions, 'session')}")
    return "\n".join(lines)


def _problem(backend: BackendConfig) -> str:
    """Return why no session would be opened; empty where some would."""
    if not backend.nodes:
        return "no enabled node is chosen"
    try:
        session_claims(backend)
    except InvalidValue as error:
        return str(error)
    return ""


def _backend(backend: BackendConfig, problem: str) -> Iterator[str]:
    yield f"{backend.tenant}/{backend.name}" if backend.tenant else backend.name
    if problem:
        yield f"  no session: {problem}"
    else:
        for node in backend.nodes:
            yield f"  session to {node.shown}"
        yield from _claims(backend)
    for mapping in backend.routes:
        port = f"  {mapping.transport} {mapping.port}"
        for pattern, targets in sorted(mapping.hosts.items()):
            yield f"{port} {pattern} -> {_targets(targets, mapping.options)}"
        yield f"{port} others -> {_targets(mapping.default, mapping.options) if mapping.default else 'refused'}"
        if options := "; ".join(_options(mapping.options)):
            yield f"{port}: {options}"
        for problem in _refused(mapping, backend.target_policies):
            yield f"{port}: {problem}"


def _refused(mapping: PortRoutes, policies: tuple[TargetPolicy, ...]) -> Iterator[str]:
    """Say which targets will be refused, as far as that is known without a resolver."""
    texts = [text for text in (*mapping.hosts.values(), mapping.default) if text] if policies else []
    targets = dict.fromkeys(target for text in texts for target in parse_targets(text))
    for target in targets:
        if problem := target_refusal(target, policies):
            yield f"{target} is refused: {problem}"


def _targets(text: str, options: PortOptions) -> str:
    separator = " and " if options.target_order is TargetOrder.ROUND_ROBIN else ", else "
    targets = separator.join(target.strip() for target in text.split(","))
    return f"{targets} in turn" if separator == " and " and "," in text else targets


def _options(options: PortOptions) -> Iterator[str]:
    """Say in words what differs from the defaults; the order of targets is said with them."""
    if options.proxy_protocol:
        yield f"PROXY protocol {options.proxy_protocol.value} to targets"
    if options.dial_timeout != DIAL_TIMEOUT:
        yield f"dial timeout {options.dial_timeout:g} s"
    health = options.target_health
    if health.interval:
        yield (
            f"targets checked every {health.interval:g} s (timeout {health.timeout:g} s, "
            f"down after {health.down_after}, up after {health.up_after})"
        )
    access = options.access
    observed = ", observed only" if access.mode is AccessMode.OBSERVE else ""
    if access.allow:
        yield f"users allowed from {', '.join(access.allow)}{observed}"
    if access.deny:
        yield f"users denied from {', '.join(access.deny)}{observed}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _credential(credential: Credential | None) -> str:
    """Name the kind, and where it comes from as far as that is no secret."""
    match credential:
        case PresignedToken():
            return "a pre-signed token"
        case HmacSecret():
            return "tokens signed with an HMAC secret"
        case HmacSecretFile(path=path):
            return f"tokens signed with the HMAC secret in {path}"
        case TokenCommand(command=command):
            return f"tokens that {command} prints"
        case TokenProvider():
            return "tokens that the program provides"
    return "nothing"


def _claims(backend: BackendConfig) -> Iterator[str]:
    yield f"  authenticates by {_credential(backend.credential)}"
    claims = session_claims(backend)
    yield f"  claims {', '.join(claims.hostnames) or 'no hostname'}, weight {claims.weight}"
    for port in claims.tcp_ports:
        yield f"  claims the whole TCP port {port}"
    for route in claims.udp_routes:
        yield f"  claims the UDP port {route.port}"
    if isinstance(backend.credential, PresignedToken):
        expires = parse_claims(backend.credential.token).expires_at
        if expires is not None and expires <= time.time():
            yield "  warning: the token has expired, nodes will refuse it"
