"""Whether nodes have taken a credential's next secret, as relays report it."""

from __future__ import annotations

from dataclasses import dataclass

from tenants.models.backend import Backend
from tenants.models.backend_node import BackendNode
from tenants.models.credential import Credential
from tenants.models.credential_use import CredentialUse
from tenants.models.relay_session import RelaySession
from tenants.models.relay_trouble import RelayUplink


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a next secret that serves.

    Attributes:
        at: addresses of the backend's nodes at which a session has authenticated with it.
        refused: other nodes, with what a relay says of its newest attempt there.
        not_at: the rest.
    """

    at: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    not_at: tuple[str, ...]


def taken(credential: Credential) -> Taken:
    """Return which of the backend's nodes have taken the next secret, and what relays say of the others."""
    links = BackendNode.objects.filter(backend=credential.backend_id, node__enabled=True).select_related("node")
    wanted = sorted(link.node.address for link in links)
    sessions = RelaySession.objects.live().filter(
        backend=credential.backend_id, fingerprint=credential.next_fingerprint
    )
    found = set(sessions.values_list("node", flat=True))
    # A session that has ended since counts too.
    uses = CredentialUse.objects.filter(backend=credential.backend_id, fingerprint=credential.next_fingerprint)
    found |= set(uses.values_list("node", flat=True))
    troubles = RelayUplink.objects.live().filter(backend=credential.backend_id).exclude(problem="")
    said = {node: problem for node, problem in troubles.values_list("node", "problem") if node not in found}
    return Taken(
        tuple(address for address in wanted if address in found),
        tuple((address, said[address]) for address in wanted if address in said),
        tuple(address for address in wanted if address not in found and address not in said),
    )


def attesting_nodes(backend: Backend) -> list[str]:
    """Return the addresses of a backend's nodes at which live sessions attest, and none holds a pre-signed token.

    Sessions of its tenant only: those of others are none of its users' business.
    """
    addresses = BackendNode.objects.filter(backend=backend, node__enabled=True).values("node__address")
    own = RelaySession.objects.live().filter(backend__tenant=backend.tenant_id, node__in=addresses)
    dialects: dict[str, set[str]] = {}
    for node, dialect in own.values_list("node", "dialect").distinct():
        dialects.setdefault(node, set()).add(dialect)
    return sorted(node for node, found in dialects.items() if found == {"attested"})
