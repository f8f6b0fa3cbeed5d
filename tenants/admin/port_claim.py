"""Port claims on the backend's page."""

from tenants.admin.base import RegistryTabularInline
from tenants.models import PortClaim


class PortClaimInline(RegistryTabularInline):
    """Whole public ports that the backend claims."""

    model = PortClaim
    fields = ["transport", "public_port", "flow_idle_timeout"]
