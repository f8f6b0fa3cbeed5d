"""The registry's nouns, one a file."""

from tenants.changes.audit_entry import AuditEntry
from tenants.changes.change_log import Change, ChangeAction, ChangeKind, GenerationCounter
from tenants.changes.role import Role, SiteRoleName
from tenants.models.backend import Backend, RemovalMode
from tenants.models.backend_hostname import BackendHostname
from tenants.models.backend_node import BackendNode
from tenants.models.backend_usage import BackendUsage
from tenants.models.credential import SECRET_KINDS, Credential, CredentialKind
from tenants.models.credential_use import CredentialUse
from tenants.models.domain import Domain, VerifiedBy
from tenants.models.expiry_notice import ExpiryNotice, NoticeChannel
from tenants.models.host_route import HostRoute
from tenants.models.hostname import Hostname
from tenants.models.hostname_grant import HostnameGrant
from tenants.models.invitation import Invitation
from tenants.models.limits import LIMIT_FIELDS
from tenants.models.membership import Membership
from tenants.models.node import NexusNode
from tenants.models.port_claim import PortClaim, Transport
from tenants.models.port_mapping import (
    OPTION_FIELDS,
    AccessMode,
    PortMapping,
    ProxyProtocol,
    TargetOrder,
    fields_of,
    options_of,
)
from tenants.models.relay_process import RelayProcess
from tenants.models.relay_session import RelaySession
from tenants.models.relay_trouble import RelayTarget, RelayUplink
from tenants.models.revocation import Revocation
from tenants.models.site import Site
from tenants.models.site_role import SiteRole
from tenants.models.target_policy import OPEN_POLICY, TARGET_POLICY_FIELDS, policy_of
from tenants.models.tenant import Tenant
from tenants.models.tenant_key import KeyState, TenantKey

__all__ = [
    "LIMIT_FIELDS",
    "OPEN_POLICY",
    "OPTION_FIELDS",
    "SECRET_KINDS",
    "TARGET_POLICY_FIELDS",
    "AccessMode",
    "AuditEntry",
    "Backend",
    "BackendHostname",
    "BackendNode",
    "BackendUsage",
    "Change",
    "ChangeAction",
    "ChangeKind",
    "Credential",
    "CredentialKind",
    "CredentialUse",
    "Domain",
    "ExpiryNotice",
    "GenerationCounter",
    "HostRoute",
    "Hostname",
    "HostnameGrant",
    "Invitation",
    "KeyState",
    "Membership",
    "NexusNode",
    "NoticeChannel",
    "PortClaim",
    "PortMapping",
    "ProxyProtocol",
    "RelayProcess",
    "RelaySession",
    "RelayTarget",
    "RelayUplink",
    "RemovalMode",
    "Revocation",
    "Role",
    "Site",
    "SiteRole",
    "SiteRoleName",
    "TargetOrder",
    "Tenant",
    "TenantKey",
    "Transport",
    "VerifiedBy",
    "fields_of",
    "options_of",
    "policy_of",
]
