"""Per-tenant dialer and health checks."""

from __future__ import annotations

from relay.network.names import Names
from relay.network.resolver import Resolver
from relay.targets.dialing import Dialer
from relay.targets.health import HealthChecks
from relay.timings import Timings


class TenantTargets:
    """The dialer and the health checks of one tenant.

    Tenants share neither, so that names without an answer, mute targets and thousands of checks delay only the
    streams of the tenant that has them, and no dial tells what another tenant has dialled before.

    Args:
        tenant: for the log.
        names: of a tenant that had no backend left for a while, but still has look-ups under way: they count on.
    """

    def __init__(
        self, resolver: Resolver, tenant: str = "", names: Names | None = None, timings: Timings = Timings()
    ) -> None:
        self.names = names or Names(resolver.look_up, timings)
        self.dialer = Dialer(names=self.names, timings=timings)
        self.health = HealthChecks(self.dialer, tenant)
