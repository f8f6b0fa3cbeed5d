"""Writes a document in the format that the files are read in."""

from __future__ import annotations

import io
import json
from typing import Any

import yaml

from relay.config import (
    AttestationOptions,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
)
from relay.configfile.document import BackendDocument, ConfigDocument, PortMappingDocument
from relay.configfile.extras import write_backend, write_port_options

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LEFT_OUT = "left out: this was written without secrets"
_DEFAULTS = AttestationOptions()


def dump(document: ConfigDocument, *, include_secrets: bool = False) -> str:
    """Return the document as YAML text; what has its default value is left out.

    With ``include_secrets`` the text reads back to an equal document. Without, each secret (token, HMAC secret, the
    command's arguments and environment) is a comment that says so, and so is the command that would run without them:
    the text is refused when it is read, until they are filled in.
    """
    text = io.StringIO()
    text.write("backends:\n" if document.backends else "backends: []\n")
    for backend in document.backends:
        values, left_out = _backend(backend, include_secrets)
        lines = yaml.dump(
            [values], Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=2**31 - 1, default_flow_style=False
        ).splitlines(keepends=True)
        for line in lines:
            text.write("  " + line)
        if left_out:
            # At the end of the backend; the keys of "attestation" stand last in it.
            text.writelines(f"    {comment}\n" for comment in left_out)
    return text.getvalue()


def _backend(backend: BackendDocument, include_secrets: bool) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {"name": backend.name}
    if backend.hostnames:
        values["hostnames"] = list(backend.hostnames)
    if backend.tcp_ports:
        values["tcpPorts"] = list(backend.tcp_ports)
    if backend.udp_routes:
        values["udpRoutes"] = [
            {"port": route.port}
            | ({"flowIdleTimeoutSeconds": route.flow_idle_timeout} if route.flow_idle_timeout else {})
            for route in backend.udp_routes
        ]
    values["nexusAddresses"] = list(backend.nexus_addresses)
    if backend.weight != 1:
        values["weight"] = backend.weight
    values["portMappings"] = {mapping.port: _port_mapping(mapping) for mapping in backend.port_mappings}
    if backend.health_checks != HealthCheckOptions():
        values["healthChecks"] = {
            "enabled": backend.health_checks.enabled,
            "inactivityTimeout": int(backend.health_checks.inactivity_timeout),
            "pongTimeout": int(backend.health_checks.pong_timeout),
        }
    if backend.flow_control != FlowControlOptions():
        values["flowControl"] = {
            "highWaterMark": backend.flow_control.high_water,
            "lowWaterMark": backend.flow_control.low_water,
            "maxBuffer": backend.flow_control.max_buffer,
        }
    if backend.socks5_listen_addr:
        values["socks5ListenAddr"] = backend.socks5_listen_addr
    values |= write_backend(backend.limits, backend.removal)
    if isinstance(backend.credential, PresignedToken):
        if include_secrets:
            values["authToken"] = backend.credential.token
            return values, []
        return values, [f"# authToken: {_LEFT_OUT}"]
    attestation, left_out = _attestation(backend, include_secrets)
    if attestation:
        values["attestation"] = attestation
    elif left_out:
        left_out.insert(0, "# attestation:")
    return values, left_out


def _port_mapping(mapping: PortMappingDocument) -> str | dict[str, Any]:
    options = write_port_options(mapping.options)
    if not mapping.hosts and not options:
        return mapping.default or ""
    default = {"default": mapping.default} if mapping.default else {}
    return default | ({"hosts": dict(mapping.hosts)} if mapping.hosts else {}) | options


def _attestation(backend: BackendDocument, include_secrets: bool) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    left_out: list[str] = []
    match backend.credential:
        case TokenCommand(command=command, args=args, env=env, timeout=timeout):
            if include_secrets or not (args or env):
                values["command"] = command
            else:
                left_out.append(f"  # command: {json.dumps(command)}")
            for key, found in (("args", list(args)), ("env", dict(env))):
                if found and include_secrets:
                    values[key] = found
                elif found:
                    left_out.append(f"  # {key}: {_LEFT_OUT}")
            if timeout != TokenCommand("").timeout:
                values["timeoutSeconds"] = int(timeout)
        case HmacSecret(secret=secret):
            if include_secrets:
                values["hmacSecret"] = secret
            else:
                left_out.append(f"  # hmacSecret: {_LEFT_OUT}")
        case HmacSecretFile(path=path):
            values["hmacSecretFile"] = path
    options = backend.attestation
    for key, value, default in (
        ("cacheHandshakeSeconds", options.cache_handshake, _DEFAULTS.cache_handshake),
        ("tokenTTLSeconds", options.token_ttl, _DEFAULTS.token_ttl),
        ("handshakeMaxAgeSeconds", options.handshake_max_age, _DEFAULTS.handshake_max_age),
        ("reauthIntervalSeconds", options.reauth_interval, _DEFAULTS.reauth_interval),
        ("reauthGraceSeconds", options.reauth_grace, _DEFAULTS.reauth_grace),
        ("maintenanceGraceCapSeconds", options.maintenance_grace_cap, _DEFAULTS.maintenance_grace_cap),
        ("authorizerStatusUri", options.authorizer_status_uri, _DEFAULTS.authorizer_status_uri),
        ("policyVersion", options.policy_version, _DEFAULTS.policy_version),
        ("outboundAllowed", backend.outbound_allowed, False),
        ("allowedOutboundPorts", list(backend.allowed_outbound_ports), []),
    ):
        if value != default:
            values[key] = value
    return values, left_out
