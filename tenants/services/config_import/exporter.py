"""Export of a tenant's backends as a configuration document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relay.configfile import ConfigDocument
from tenants.models import CredentialKind, Transport
from tenants.services.config_import.backend_states import BackendState, StoredBackend, load, to_document
from tenants.services.config_import.tenant import tenant_to_export


class NotExpressible(ValueError):
    """The registry holds what the file format cannot express.

    Attributes:
        problems: one text for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Export:
    """A document, and what its reader should know of it.

    Attributes:
        left_out: names of the disabled backends that it does not hold: the format cannot mark a backend as disabled.
        warnings: what the registry holds and the file does not, or what keeps the file from being read back.
    """

    document: ConfigDocument
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def export_config(tenant: str | None = None, *, secrets: bool = False, include_disabled: bool = False) -> Export:
    """Return the tenant's backends, by name, as a configuration document.

    Args:
        tenant: slug; None for the default one.
        secrets: the document is to be written with its secrets, so all must be readable.
        include_disabled: also disabled backends; a relay or an import that reads the file serves them.

    Raises:
        UnknownTenant: there is no such tenant.
        NotExpressible: the file would say something else than the registry.
    """
    stored = list(load(tenant_to_export(tenant)).values())
    chosen = [backend for backend in stored if backend.enabled or include_disabled]
    problems = [problem for backend in chosen for problem in _problems(backend, secrets)]
    if problems:
        raise NotExpressible(problems)
    return Export(
        ConfigDocument(tuple(to_document(backend.name, backend.state) for backend in chosen)),
        left_out=tuple(backend.name for backend in stored if not (backend.enabled or include_disabled)),
        warnings=tuple(f"{backend.name}: {text}" for backend in chosen for text in _warnings(backend.state)),
    )


def _problems(backend: StoredBackend, secrets: bool) -> Iterator[str]:
    state = backend.state
    for transport, port in state.mappings:
        other = state.mappings.get((Transport.TCP.value, port))
        if transport == Transport.UDP and other is not None and other != state.mappings[transport, port]:
            yield (
                f"{backend.name}: port {port} is mapped differently for TCP and for UDP, and a file has one mapping a "
                "port: give both the same targets and settings"
            )
    if secrets and state.credential is not None and not state.credential.readable:
        yield (
            f"{backend.name}: its credential cannot be decrypted: put the key that it was written with back into "
            "FIELD_ENCRYPTION_KEYS, or enter the credential again"
        )


def _warnings(state: BackendState) -> Iterator[str]:
    for missing, noun in (
        (not state.hostnames and not state.claims, "hostname and no port claim"),
        (not state.nodes, "node"),
        (not state.mappings, "port mapping"),
        (state.credential is None, "credential"),
    ):
        if missing:
            yield f"it has no {noun}, so the file is refused until that is added"
    if state.credential is not None and state.credential.kind == CredentialKind.TENANT_KEY:
        yield "its tokens are signed with the tenant's key, which no file holds: give the file a credential of its own"
    for transport, port in sorted(state.mappings):
        if transport == Transport.UDP and (Transport.TCP.value, port) not in state.mappings:
            yield f"port {port} is mapped for UDP only; an import of the file maps it for TCP too"
        elif (
            transport == Transport.TCP
            and (Transport.UDP.value, port) in state.claims
            and (Transport.UDP.value, port) not in state.mappings
        ):
            yield f"port {port} is mapped for TCP only; an import of the file maps it for UDP too"
