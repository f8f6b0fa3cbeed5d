"""Which rules hold for the rows of which model, on every way to write them."""

from __future__ import annotations

from functools import partial

from tenants.changes import checks
from tenants.models import Backend, Credential, Domain, Hostname, HostRoute, PortMapping
from tenants.rules import commands, limits, ownership, targets


def register() -> None:
    """Register the rules; called once when the application is ready."""
    checks.register(Backend, "limits", limits.check_numbers)
    checks.register(Hostname, "limits", limits.check_numbers)
    checks.register(Hostname, "ownership", ownership.check_hostnames)
    checks.register(Domain, "ownership", ownership.check_domains)
    checks.register(Credential, "commands", commands.check_commands, fields={"command"}, clean=commands.check_row)
    for model, name in ((PortMapping, "default_target"), (HostRoute, "target")):
        checks.register(
            model,
            "targets",
            partial(targets.check_targets, name=name),
            fields={name},
            clean=partial(targets.check_target, name=name),
        )
