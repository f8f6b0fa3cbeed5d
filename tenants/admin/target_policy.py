"""The part of a page that says where targets may be: on those of tenants and of sites."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Field
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextareaWidget

from relay.config.target_policy import TargetPolicy
from tenants.models import TARGET_POLICY_FIELDS
from tenants.rules.targets import count_refused


def fieldset(description: str) -> tuple[str, dict[str, Any]]:
    """Return the fields as one group."""
    fields = ["target_networks", ("target_ports", "target_unix")]
    return ("Where targets may be", {"fields": fields, "classes": ["collapse"], "description": description})


def widget_for(db_field: Field) -> dict[str, Any]:
    """Return what a field's form field is to be made with."""
    return {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3})} if db_field.name == "target_networks" else {}


def warn_of_refused(
    model_admin: ModelAdmin, request: HttpRequest, form: Any, policy: TargetPolicy, backends: Any
) -> None:
    """Warn how many routes of the backends a policy refuses that was just changed."""
    if not set(form.changed_data).intersection(TARGET_POLICY_FIELDS):
        return
    number = count_refused(policy, backends)
    if number:
        what = "1 default target or host route" if number == 1 else f"{number} default targets and host routes"
        text = f"Saved, but this policy refuses {what}: new streams do not get there any more, live ones go on."
        model_admin.message_user(request, text, messages.WARNING)
