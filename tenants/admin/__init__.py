"""The registry's admin: one noun a file, everything through the gate (`tenants.admin.gate`)."""

from django.contrib import admin

from tenants.admin.audit_entry import AuditEntryAdmin
from tenants.admin.backend import BackendAdmin
from tenants.admin.credential import CredentialAdmin
from tenants.admin.domain import DomainAdmin
from tenants.admin.hostname import HostnameAdmin
from tenants.admin.hostname_grant import HostnameGrantAdmin
from tenants.admin.invitation import InvitationAdmin
from tenants.admin.membership import MembershipAdmin
from tenants.admin.node import NodeAdmin
from tenants.admin.port_mapping import PortMappingAdmin
from tenants.admin.revocation import RevocationAdmin
from tenants.admin.site import SiteAdmin
from tenants.admin.tenant import TenantAdmin
from tenants.admin.tenant_key import TenantKeyAdmin
from tenants.models import (
    AuditEntry,
    Backend,
    Credential,
    Domain,
    Hostname,
    HostnameGrant,
    Invitation,
    Membership,
    NexusNode,
    PortMapping,
    Revocation,
    Site,
    Tenant,
    TenantKey,
)

admin.site.register(Tenant, TenantAdmin)
admin.site.register(Backend, BackendAdmin)
admin.site.register(PortMapping, PortMappingAdmin)
admin.site.register(Credential, CredentialAdmin)
admin.site.register(Hostname, HostnameAdmin)
admin.site.register(Domain, DomainAdmin)
admin.site.register(HostnameGrant, HostnameGrantAdmin)
admin.site.register(TenantKey, TenantKeyAdmin)
admin.site.register(Revocation, RevocationAdmin)
admin.site.register(NexusNode, NodeAdmin)
admin.site.register(Site, SiteAdmin)
admin.site.register(Membership, MembershipAdmin)
admin.site.register(Invitation, InvitationAdmin)
admin.site.register(AuditEntry, AuditEntryAdmin)

admin.site.index_title = "Registry"
admin.site.index_template = "tenants/admin/dashboard.html"
admin.site.enable_nav_sidebar = True
