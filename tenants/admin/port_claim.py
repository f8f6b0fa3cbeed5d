"""Port claims on the backend's page."""

from tenants.admin.base import RegistryTabularInline
from tenants.admin.forms import RegistryForm
from tenants.models import PortClaim


class PortClaimForm(RegistryForm):
    """A port claim; columns have no room for help texts, so the label names the unit."""

    class Meta:
        labels = {"flow_idle_timeout": "idle timeout (seconds, UDP only)"}


class PortClaimInline(RegistryTabularInline):
    """Whole public ports that the backend claims."""

    model = PortClaim
    form = PortClaimForm
    fields = ["transport", "public_port", "flow_idle_timeout"]
