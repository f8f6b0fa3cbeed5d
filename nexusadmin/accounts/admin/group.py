"""Groups in the admin."""

from __future__ import annotations

from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from unfold.admin import ModelAdmin

from nexusadmin.accounts.admin.operators_only import OperatorsOnly
from tenants.admin.history import RecordedHistory
from tenants.admin.opened import ChecksWhatChanged


class GroupAdmin(RecordedHistory, OperatorsOnly, ChecksWhatChanged, DjangoGroupAdmin, ModelAdmin):
    """Groups; the registry itself asks for none."""
