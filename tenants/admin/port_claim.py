"""Port claims on the backend's page."""

from __future__ import annotations

from tenants.admin.base import RegistryTabularInline
from tenants.admin.forms import RegistryForm
from tenants.models import PortClaim
from tenants.services.access import permissions


class PortClaimForm(RegistryForm):
    """A port claim; columns have no room for help texts, so the label names the unit."""

    class Meta:
        labels = {"flow_idle_timeout": "idle timeout (seconds, UDP only)"}

    def check_user(self) -> None:
        if self.instance.backend.tenant_id is None:
            return  # the backend lacks its tenant, which is said there
        if not {"transport", "public_port"}.isdisjoint(self.changed_data):
            permissions.check_port_claim(self.user, self.instance)


class PortClaimInline(RegistryTabularInline):
    """Whole public ports that the backend claims."""

    model = PortClaim
    form = PortClaimForm
    fields = ["transport", "public_port", "flow_idle_timeout"]
