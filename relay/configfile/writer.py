"""Writes a document in the format that the files are read in."""

from __future__ import annotations

import io
import json
from typing import Any

import yaml

from relay.config import Credential, HmacSecret, HmacSecretFile, PresignedToken, TokenCommand
from relay.configfile.document import BackendDocument, ConfigDocument, PortMappingDocument
from relay.configfile.fields import write_fields
from relay.configfile.port_options import write_port_options

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LEFT_OUT = "left out: this was written without secrets"


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
    written = write_fields(backend)
    options = written.pop("attestation", {})
    if "weight" in written:
        values["weight"] = written.pop("weight")
    values["portMappings"] = {mapping.port: _port_mapping(mapping) for mapping in backend.port_mappings}
    values |= written
    if isinstance(backend.credential, PresignedToken):
        if include_secrets:
            values["authToken"] = backend.credential.token
            return values, []
        return values, [f"# authToken: {_LEFT_OUT}"]
    attestation, left_out = _source(backend.credential, include_secrets)
    attestation |= options
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


def _source(credential: Credential | None, include_secrets: bool) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    left_out: list[str] = []
    match credential:
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
    return values, left_out
