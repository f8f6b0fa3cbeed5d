"""Where the message of a named constraint is shown in a form."""

from __future__ import annotations

from django.db.models import BaseConstraint, Model

FIELD_OF: dict[str, str] = {
    "backend_name_unique_in_tenant": "name",
    "backend_name_not_empty": "name",
    "backend_weight_positive": "weight",
    "backend_flow_marks_ordered": "flow_high_water",
    "backend_health_check_positive": "health_check_inactivity_timeout",
    "backend_removal_mode_known": "removal_mode",
    "backend_outbound_ports_need_outbound": "allowed_outbound_ports",
    "backendhostname_unique": "name",
    "backendnode_unique": "node",
    "credential_kind_known": "kind",
    "credential_secret_present": "secret",
    "credential_next_complete": "next_at",
    "credential_secret_file_present": "secret_file",
    "credential_command_present": "command",
    "credential_times_positive": "token_ttl",
    "domain_tenant_name_unique": "name",
    "domain_verified_name_unique": "name",
    "domain_name_token_not_empty": "name",
    "domain_verified_by_known": "name",
    "domain_missing_only_if_proved_by_dns": "name",
    "hostname_name_unique": "name",
    "hostname_name_not_empty": "name",
    "hostnamegrant_unique": "name",
    "hostnamegrant_name_grantee_not_empty": "name",
    "hostroute_pattern_unique": "pattern",
    "hostroute_pattern_target_not_empty": "target",
    "invitation_email_unique": "email",
    "invitation_role_known": "role",
    "invitation_token_unique": "email",
    "membership_user_tenant_unique": "user",
    "membership_role_known": "role",
    "nexusnode_name_unique": "name",
    "nexusnode_address_unique": "address",
    "nexusnode_name_address_not_empty": "address",
    "portclaim_unique": "public_port",
    "portclaim_transport_known": "transport",
    "portclaim_port_range": "public_port",
    "portclaim_flow_idle_timeout_udp": "flow_idle_timeout",
    "portmapping_unique": "public_port",
    "portmapping_transport_known": "transport",
    "portmapping_port_range": "public_port",
    "portmapping_proxy_protocol_known": "proxy_protocol",
    "portmapping_proxy_protocol_udp": "proxy_protocol",
    "portmapping_target_order_known": "target_order",
    "portmapping_dial_timeout_range": "dial_timeout",
    "portmapping_target_health_positive": "target_health_timeout",
    "portmapping_access_mode_known": "access_mode",
    "siterole_role_known": "role",
    "revocation_unique": "token_id",
    "revocation_names_one": "token_id",
    "tenantkey_kid_unique": "secret",
    "tenantkey_kid_not_empty": "secret",
    "tenantkey_revoked_because_revoked": "revoked_because",
    "site_slug_unique": "slug",
    "site_slug_not_empty": "slug",
    "tenant_slug_unique": "slug",
    "tenant_slug_not_empty": "slug",
}


def message_of(constraint: BaseConstraint) -> str:
    """Return what is said when the constraint does not hold."""
    return str(constraint.get_violation_error_message())


def fields_by_message(model: type[Model]) -> dict[str, str]:
    """Return the form field for each message of the model's constraints."""
    return {
        message_of(constraint): FIELD_OF[constraint.name]
        for constraint in model._meta.constraints
        if constraint.name in FIELD_OF
    }
