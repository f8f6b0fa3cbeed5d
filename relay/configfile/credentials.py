"""Reading of a backend's credential: ``authToken`` or ``attestation``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.config import Credential, HmacSecret, HmacSecretFile, PresignedToken, TokenCommand
from relay.config.hostnames import normalise_pattern
from relay.configfile.fields import GROUPS, keys_of, read_members
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import child
from relay.configfile.values import Values, is_blank, is_empty
from relay.errors import InvalidValue
from relay.tokens.claims import parse_claims

SOURCE_KEYS: Final = frozenset({"command", "args", "env", "timeoutSeconds", "hmacSecret", "hmacSecretFile"})
ATTESTATION_KEYS: Final = SOURCE_KEYS | keys_of("attestation")

_COMMAND_TIMEOUT: Final = 15
_PATH_LIMIT: Final = 500
_SECRET_LIMIT: Final = 64 * 1024


def read_credential(
    values: Values, node: Node, members: Mapping[str, Node], path: str, hostnames: Sequence[str]
) -> tuple[Credential | None, dict[str, Any]]:
    """Read how a backend authenticates; what is wrong is noted.

    Args:
        hostnames: what the backend claims; a token that does not is warned of.

    Returns:
        The credential, and the fields of ``attestation`` by `relay.configfile.fields.Field.attribute`.
    """
    token, attestation = members.get("authToken"), members.get("attestation")
    if token is not None and isinstance(token, Scalar) and not token.text.strip():
        token = None
    if token is not None and attestation is not None:
        values.note(token, child(path, "authToken"), "stands beside attestation: keep one of the two")
        return None, {}
    if attestation is not None:
        values.keep(child(path, "attestation"), attestation)
        return _attestation(values, attestation, child(path, "attestation"))
    if token is None:
        values.note(node, path, "has no credential: give authToken: or attestation:")
        return None, {}
    return _token(values, token, child(path, "authToken"), hostnames), {}


def _attestation(values: Values, node: Node, path: str) -> tuple[Credential | None, dict[str, Any]]:
    members = values.mapping(node, path, ATTESTATION_KEYS, GROUPS["attestation"].what, secret=True)
    if members is None:
        return None, {}
    found = read_members(values, members, path, "attestation")
    if found.get("claims.allowed_outbound_ports") and not found.get("claims.outbound_allowed"):
        values.warn(
            members["allowedOutboundPorts"][1],
            child(path, "allowedOutboundPorts"),
            "lists ports, but outboundAllowed is not true: outbound stays off, and the ports are left out",
        )
        del found["claims.allowed_outbound_ports"]
    return _source(values, node, {key: value for key, (_, value) in members.items()}, path), found


def _token(values: Values, node: Node, path: str, hostnames: Sequence[str]) -> PresignedToken | None:
    values.keep(path, node)
    text = values.text(node, path, "write the complete signed token (a JWT)", limit=_SECRET_LIMIT, secret=True)
    if text is None:
        return None
    try:
        found = parse_claims(text)
    except InvalidValue as error:
        values.note(node, path, f"the token {error.problem}: {error.remedy}")
        return None
    if found.expires_at is not None and found.expires_at <= time.time():
        values.warn(node, path, "the token has expired: the node will refuse it; have it signed again")
    served = set(map(normalise_pattern, found.claims.hostnames))
    missing = [name for name in hostnames if name not in served]
    if missing:
        values.warn(
            node,
            path,
            f"the token does not claim {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}: "
            "the node goes by the token; have it signed again",
        )
    return PresignedToken(text.strip())


def _source(values: Values, node: Node, members: Mapping[str, Node], path: str) -> Credential | None:
    """Return where the tokens come from: the first that is given of command, hmacSecret, hmacSecretFile."""
    sources = [
        key for key in ("command", "hmacSecret", "hmacSecretFile") if key in members and not is_blank(members[key])
    ]
    if not sources:
        values.note(node, path, "names no source of tokens: give command:, hmacSecret: or hmacSecretFile:")
        return None
    key = sources[0]
    for unused in sources[1:]:
        values.warn(
            members[unused], child(path, unused), f"is not used: the tokens come from {key}, which is given too"
        )
    where, found = child(path, key), members[key]
    if key == "hmacSecret":
        secret = values.text(found, where, "write the key", limit=_SECRET_LIMIT, secret=True)
        # A block of YAML ends with a line break.
        credential: Credential | None = None if secret is None else HmacSecret(secret.strip())
    elif key == "hmacSecretFile":
        file = values.line(found, where, "write the path of the file", limit=_PATH_LIMIT)
        credential = None if file is None else HmacSecretFile(file)
    else:
        program = values.line(found, where, "write the path of the program", limit=_PATH_LIMIT)
        args = _arguments(values, members, path)
        env = _environment(values, members, path)
        timeout = _timeout(values, members, path)
        return None if program is None else TokenCommand(program, args, env, float(timeout))
    for unused in ("args", "env", "timeoutSeconds"):
        if unused in members and not is_empty(members[unused]):
            values.warn(members[unused], child(path, unused), f"has no effect beside {key}: it belongs to command")
    return credential


def _arguments(values: Values, members: Mapping[str, Node], path: str) -> tuple[str, ...]:
    if "args" not in members:
        return ()
    where, what = child(path, "args"), 'write a list of texts, as in ["--backend=edge"]'
    found = []
    for index, item in values.items(members["args"], where, what, secret=True):
        text = values.text(item, child(where, index), what, limit=_SECRET_LIMIT, secret=True)
        if text is not None:
            found.append(text)
    return tuple(found)


def _environment(values: Values, members: Mapping[str, Node], path: str) -> tuple[tuple[str, str], ...]:
    if "env" not in members:
        return ()
    where, what = child(path, "env"), "write names and texts, as in {NAME: value}"
    found = {}
    for key, value in (values.mapping(members["env"], where, None, what, secret=True) or {}).values():
        if not key.text or "=" in key.text or "\0" in key.text:
            values.note(key, where, "has a name that is empty or holds = or NUL: name the variable, as in NAME")
            continue
        if isinstance(value, Scalar) and value.is_null:
            found[key.text] = ""
            continue
        text = values.text(value, child(where, key.text), what, limit=_SECRET_LIMIT, secret=True)
        if text is not None:
            found[key.text] = text
    return tuple(sorted(found.items()))


def _timeout(values: Values, members: Mapping[str, Node], path: str) -> int:
    found = members.get("timeoutSeconds")
    number = None if found is None else values.whole(found, child(path, "timeoutSeconds"), 0, " of seconds")
    return number or _COMMAND_TIMEOUT
