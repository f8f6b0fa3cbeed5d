"""How the backends of one tenant reach their targets, apart from everybody else's."""

from __future__ import annotations

from relay.targets.dialing import Dialer
from relay.targets.health import HealthChecks
from relay.targets.resolver import Resolver


class TenantTargets:
    """The dialer and the health checks of one tenant.

    Tenants share neither, so that names that nobody answers for, mute targets and thousands of checks keep only the
    streams waiting of whoever has them, and no dial tells what another tenant has dialled before.

    Args:
        tenant: for the log.
        dialer: of a tenant that had none left for a while, but still has look-ups under way: they count on.
    """

    def __init__(self, resolver: Resolver, tenant: str = "", dialer: Dialer | None = None) -> None:
        self.dialer = dialer or Dialer(look_up=resolver.look_up)
        self.health = HealthChecks(self.dialer, tenant)
