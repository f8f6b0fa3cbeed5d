"""Everything below backends: the one list of what belongs to them, for all who read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from tenants.changes.querysets import RegistryQuerySet
from tenants.models.backend import Backend
from tenants.models.backend_hostname import BackendHostname
from tenants.models.backend_node import BackendNode
from tenants.models.credential import Credential
from tenants.models.host_route import HostRoute
from tenants.models.port_claim import PortClaim
from tenants.models.port_mapping import PortMapping


@dataclass(frozen=True, slots=True)
class BelowBackends:
    """The rows below some backends, of each kind in the order of a configuration file.

    Attributes:
        backends: their primary keys, or a queryset that yields them.
        using: alias of the database.
    """

    backends: Any
    using: str = DEFAULT_DB_ALIAS

    @property
    def node_links(self) -> Any:
        """Links to nodes, `BackendNode`."""
        return self._rows(BackendNode).order_by("position", "pk")

    @property
    def hostname_links(self) -> Any:
        """Links to hostnames, `BackendHostname`."""
        return self._rows(BackendHostname).order_by("position", "pk")

    @property
    def port_claims(self) -> Any:
        """Claims of whole ports, `PortClaim`."""
        return self._rows(PortClaim).order_by("transport", "public_port")

    @property
    def port_mappings(self) -> Any:
        """Routes of ports, `PortMapping`."""
        return self._rows(PortMapping).order_by("public_port", "transport")

    @property
    def host_routes(self) -> Any:
        """Routes of hostnames below the port mappings, `HostRoute`."""
        return self._rows(HostRoute, "port_mapping__backend").order_by("pattern")

    @property
    def credentials(self) -> Any:
        """Credentials, one a backend at most, `Credential`."""
        return self._rows(Credential).order_by()

    def _rows(self, model: Any, lookup: str = "backend") -> Any:
        return model.objects.using(self.using).filter(**{f"{lookup}__in": self.backends})


def with_details(backends: RegistryQuerySet[Backend]) -> RegistryQuerySet[Backend]:
    """Return the backends with all that belongs to them, in a constant number of queries."""
    return backends.select_related("tenant", "credential").prefetch_related(
        "node_links__node", "hostname_links__hostname", "port_claims", "port_mappings__host_routes", "tenant__keys"
    )
