"""The development node's own certificate authority, and the hub's certificate from it."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)

CA_FILE = "ca.pem"
"""Name of the file that clients trust, in the certificate directory."""

_CA_KEY_FILE = "ca-key.pem"
_LEAF_FILE = "node.pem"
_LEAF_KEY_FILE = "node-key.pem"


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """Files of a CA and of a certificate for ``localhost``, ``127.0.0.1``, ``::1`` and the names asked for."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        """The CA's certificate (PEM): what a client has to trust."""
        return self.directory / CA_FILE

    @property
    def ca_pem(self) -> str:
        """The text of `ca_file`."""
        return self.ca_file.read_text(encoding="ascii")

    def server_context(self) -> ssl.SSLContext:
        """Return the context that the hub serves TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / _LEAF_FILE, self.directory / _LEAF_KEY_FILE)
        return context


def ensure_certificate(directory: Path, names: Sequence[str] = ()) -> NodeCertificate:
    """Return the certificate kept in ``directory``, made or renewed where needed; the CA stays the same.

    Args:
        directory: where both are kept.
        names: DNS names (wildcards too) that the certificate is for, beside ``localhost``.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate = NodeCertificate(directory)
    if not _is_current(certificate.ca_file) or not (directory / _CA_KEY_FILE).exists():
        _make_ca(directory)
        (directory / _LEAF_FILE).unlink(missing_ok=True)
    if not _is_current(directory / _LEAF_FILE, names) or not (directory / _LEAF_KEY_FILE).exists():
        _make_leaf(directory, names)
    return certificate


def _is_current(path: Path, names: Sequence[str] = ()) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    if names:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not set(names) <= set(alternatives.get_values_for_type(x509.DNSName)):
            return False
    return certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE


def _make_ca(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("nexusadmin development node CA")
    certificate = (
        _builder(name, name, key.public_key(), _CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(directory / _CA_KEY_FILE, key)
    _write(directory / CA_FILE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _make_leaf(directory: Path, dns_names: Sequence[str]) -> None:
    ca = x509.load_pem_x509_certificate((directory / CA_FILE).read_bytes())
    ca_key = serialization.load_pem_private_key((directory / _CA_KEY_FILE).read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{directory / _CA_KEY_FILE} holds no elliptic curve key: remove {directory}")
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        *map(x509.DNSName, dns_names),
    ]
    certificate = (
        _builder(_name("localhost"), ca.subject, key.public_key(), _LEAF_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(directory / _LEAF_KEY_FILE, key)
    _write(directory / _LEAF_FILE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, encoded, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace the file whole, never readable by more than ``mode`` allows."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
