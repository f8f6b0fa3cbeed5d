"""Django's face of the relay's checks: the one validation that models, admin forms and the importer share.

The ``normal_…`` functions return the normal form and raise `relay.errors.InvalidValue`; the ``validate_…`` functions
are Django validators and raise ValidationError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError

from relay.config.access import normal_network
from relay.config.addresses import check_node_address, check_port
from relay.config.hostnames import check_hostname
from relay.config.served_names import check_route_pattern, check_served_name
from relay.config.target_policy import normal_target_network, parse_port_ranges, port_ranges_text
from relay.config.targets import parse_target, parse_targets
from relay.errors import InvalidValue
from tenants.names import base_of, is_wildcard

DOMAIN_LENGTH: Final = 240  # the record that proves it has a label more, and no name has more than 253 characters

KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def normal_hostname(text: str) -> str:
    """Return the normal form of a hostname or single-label wildcard, as new ones must be."""
    return check_hostname(text)


def normal_served_name(text: str) -> str:
    """Return the normal form of a name that may be held: files that are imported have odd ones, too."""
    return check_served_name(text)


def normal_route_pattern(text: str) -> str:
    """Return the normal form of what a host route stands for."""
    return check_route_pattern(text)


def normal_domain(text: str) -> str:
    """Return the normal form of a domain that can be claimed: two labels or more, without a wildcard."""
    name = check_hostname(text)

    def refuse(problem: str, remedy: str) -> InvalidValue:
        return InvalidValue("domain", text, problem, remedy)

    if is_wildcard(name):
        raise refuse("is a wildcard", f"write {base_of(name)}, which covers all names under it")
    if "." not in name:
        raise refuse("is a top-level domain or a local name", "write your own domain, as in example.com")
    if len(name) > DOMAIN_LENGTH:
        raise refuse(f"has {len(name)} characters", f"keep a domain to {DOMAIN_LENGTH}, so that its record has a name")
    return name


def normal_targets(text: str) -> str:
    """Return the canonical text of one or more targets with commas between them."""
    return ",".join(str(target) for target in parse_targets(text))


def normal_networks(text: str) -> str:
    """Return the normal forms of one or more networks, each once, with commas or white space between them."""
    return ", ".join(dict.fromkeys(normal_network(part) for part in text.replace(",", " ").split()))


def normal_target_networks(text: str) -> str:
    """Return the normal forms of what a target policy allows: networks, and the word for the usual ones."""
    return ", ".join(dict.fromkeys(normal_target_network(part) for part in text.replace(",", " ").split()))


def normal_port_ranges(text: str) -> str:
    """Return the normal form of ports and ranges of them with commas between."""
    return port_ranges_text(parse_port_ranges(text))


def normal_node_address(text: str) -> str:
    """Return the normal form of a node's address; ``ws://`` beyond loopback needs settings.ALLOW_INSECURE_NODES."""
    return check_node_address(text, allow_insecure=getattr(settings, "ALLOW_INSECURE_NODES", False))


def normal_listen_address(text: str) -> str:
    """Return the canonical text of an address to listen on: ``host:port`` or ``[v6]:port``."""
    target = parse_target(text)
    if target.kind != "tcp":
        raise InvalidValue("listen address", text, "is not a host and port", "write host:port, as in 127.0.0.1:1080")
    return str(target)


def normal_certificate_hashes(text: str) -> str:
    """Return SHA-256 fingerprints of certificates, each once, with commas or white space between them."""
    found = []
    for part in text.replace(",", " ").split():
        digits = part.replace(":", "").lower()
        if not _SHA256.fullmatch(digits):
            raise InvalidValue(
                "certificate fingerprint",
                part,
                "is not a SHA-256",
                "write the 64 hexadecimal digits that openssl x509 -noout -fingerprint -sha256 prints",
            )
        found.append(digits)
    return ", ".join(dict.fromkeys(found))


def check_lines(row: Any, *names: str) -> None:
    """Refuse texts of a row that are not one line of visible characters; they go into mails, tokens and files.

    Raises:
        ValidationError: by field.
    """
    odd = [name for name in names if not str(getattr(row, name)).isprintable()]
    if odd:
        said = "This holds a line break or another invisible character: write one line without it."
        raise ValidationError(dict.fromkeys(odd, said))


def validate_key_id(value: Any) -> None:
    """Refuse what cannot be a key id in a token's header."""
    if not KEY_ID.fullmatch(str(value)):
        raise ValidationError("A key id has 1 to 64 letters, digits, hyphens and underscores.")


def _validator(check: Callable[[Any], Any], value: Any) -> None:
    try:
        check(value)
    except InvalidValue as error:
        # Not "invalid": form fields put their own message, which knows no remedy, in place of that.
        raise ValidationError(str(error), code="refused") from None


def validate_port(value: Any) -> None:
    """Refuse what is not a port from 1 to 65535."""
    _validator(check_port, value)


def validate_port_list(value: Any) -> None:
    """Refuse what is not a list of different ports (JSON)."""
    if not isinstance(value, list) or any(isinstance(port, bool) or not isinstance(port, int) for port in value):
        raise ValidationError("This is not a list of ports: write numbers in brackets, as in [25, 465, 587].")
    for port in value:
        validate_port(port)
    if len(set(value)) != len(value):
        raise ValidationError("A port is listed twice: list each once.")


def validate_text_list(value: Any) -> None:
    """Refuse what is not a list of texts (JSON)."""
    if not isinstance(value, list) or any(not isinstance(item, str) or "\0" in item for item in value):
        raise ValidationError('This is not a list of texts: write them in brackets, as in ["--backend=edge"].')


def validate_environment(value: Any) -> None:
    """Refuse what is not an object of texts by name (JSON)."""
    if not isinstance(value, dict) or any(
        not isinstance(name, str)
        or not name
        or "=" in name
        or "\0" in name
        or not isinstance(text, str)
        or "\0" in text
        for name, text in value.items()
    ):
        raise ValidationError('This is not an environment: write names and texts, as in {"NAME": "value"}.')


def validate_pem_certificates(value: str) -> None:
    """Refuse what is not one or more certificates in PEM."""
    from cryptography import x509  # takes as long to load as all models

    try:
        found = x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        found = []
    if not found:
        raise ValidationError(
            "This holds no certificate that can be read: paste the CA's certificates in PEM, "
            "each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
        )
    if "PRIVATE KEY" in value:
        raise ValidationError("This holds a private key: paste certificates only, and consider that key exposed.")
