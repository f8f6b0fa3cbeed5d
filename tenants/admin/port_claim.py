"""Port claims on the backend's page."""

from __future__ import annotations

from tenants.admin.base import RegistryTabularInline
from tenants.admin.forms import RegistryForm, RegistryFormSet
from tenants.models import PortClaim
from tenants.services import permissions


class PortClaimForm(RegistryForm):
    """A port claim; columns have no room for help texts, so the label names the unit."""

    class Meta:
        labels = {"flow_idle_timeout": "idle timeout (seconds, UDP only)"}


class PortClaimFormSet(RegistryFormSet):
    """The claims of one backend, asked for together whether they may be."""

    def clean(self) -> None:
        super().clean()
        if self.instance.tenant_id is None:
            return  # it lacks its tenant, which is said there
        names = ["transport", "public_port"]
        entered = {}
        for form in self.forms:
            key = self.entered_key(form, names) if hasattr(form, "cleaned_data") else None
            if key is not None and not self._should_delete_form(form) and not {*names}.isdisjoint(form.changed_data):
                entered[form] = key
        if entered:
            refused = permissions.refused_ports(self.form.user, self.instance.tenant_id, entered.values())
            for form, key in entered.items():
                if key in refused:
                    form.add_error("public_port", permissions.TAKEN_PORT)


class PortClaimInline(RegistryTabularInline):
    """Whole public ports that the backend claims."""

    model = PortClaim
    form = PortClaimForm
    formset = PortClaimFormSet
    fields = ["transport", "public_port", "flow_idle_timeout"]
