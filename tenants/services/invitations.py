"""Invitations to a tenant: send the link, find the invitation of a link, join."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db.models import Exists, OuterRef, Q
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tenants.changes import generations
from tenants.changes.audit_entry import UPDATED, AuditEntry
from tenants.changes.role import Role, SiteRoleName
from tenants.models.invitation import Invitation, expiry
from tenants.models.membership import Membership
from tenants.models.site_role import SiteRole

PATH = "/invitations/"
"""Where links lead, with the token behind it. `nexusadmin.logs` keeps what follows out of every line."""

PAUSE = timedelta(minutes=1)
"""Between two mails to one address."""

DAY = timedelta(days=1)
MOST_TO_ADDRESS = 5
"""Mails of one tenant to one address within a day, those of deleted invitations included."""
MOST_OF_TENANT = 200
"""Mails of one tenant within a day: their receivers have not agreed to them."""


class InvitationGone(Exception):
    """There is no such invitation, or it is used, revoked or expired; which of these is not told."""


@sensitive_variables("token")
def token_hash(token: str) -> str:
    """Return what is stored of a token. It holds 256 random bits, so nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


@sensitive_variables("token", "body", "address")
def send(invitation_id: int, site: str) -> bool:
    """Make a new link, which ends the one before, and mail it; return whether there was anything to send.

    The token exists in this call and in the mail only: it is in no row, no queue and no log.

    Args:
        invitation_id: of the invitation.
        site: the admin's address, as in ``https://admin.example.com/``.

    Raises:
        OSError, smtplib.SMTPException: the mail could not be handed over; the invitation stays "not sent".
    """
    token = secrets.token_urlsafe(32)
    with generations.batch():
        invitation = Invitation.objects.select_related("tenant").filter(pk=invitation_id).first()
        if invitation is None or invitation.accepted_at is not None:
            return False
        if too_many_mails(invitation.tenant_id, invitation.email):
            return False
        invitation.token_hash, invitation.expires_at, invitation.sent_at = token_hash(token), expiry(), None
        invitation.save()
    address = urljoin(site, f"{PATH}{token}/")
    tenant = " ".join(str(invitation.tenant).split())
    body = render_to_string("tenants/mail/invitation.txt", {"invitation": invitation, "address": address})
    EmailMessage(f"Invitation to {tenant}", body, to=[invitation.email]).send()
    Invitation.objects.filter(pk=invitation_id).update(sent_at=timezone.now())
    return True


def too_many_mails(tenant_id: int, email: str) -> str:
    """Return why no mail may go to the address now; empty where one may.

    The audit trail knows of every link that was made, also for invitations that were deleted and created again.
    """
    links = AuditEntry.objects.filter(
        tenant_key=tenant_id,
        model=Invitation._meta.label_lower,
        action=UPDATED,
        instant__gt=timezone.now() - DAY,
        changes__has_key="expires_at",
    ).order_by()
    if links.filter(object_text__startswith=f"{email} to ")[:MOST_TO_ADDRESS].count() == MOST_TO_ADDRESS:
        return f"This address got {MOST_TO_ADDRESS} mails of this tenant within a day: wait until tomorrow."
    if links[:MOST_OF_TENANT].count() == MOST_OF_TENANT:
        return f"This tenant has sent {MOST_OF_TENANT} invitations within a day: wait until tomorrow."
    return ""


def may_send_again(invitation: Invitation) -> bool:
    """Return whether another mail may go to the address now."""
    paused = invitation.sent_at is not None and invitation.sent_at > timezone.now() - PAUSE
    return not paused and not too_many_mails(invitation.tenant_id, invitation.email)


def sender_may() -> Q:
    """Return the condition that the sender of an invitation may still log in and invite."""
    owns = Membership.objects.filter(
        user_id=OuterRef("invited_by_id"), tenant_id=OuterRef("tenant_id"), role=Role.OWNER
    )
    audits = SiteRole.objects.filter(user_id=OuterRef("invited_by_id"), role=SiteRoleName.AUDITOR)
    invites = Exists(owns) & ~Exists(audits) | Q(invited_by__is_superuser=True)
    return Q(invited_by__is_active=True, invited_by__is_staff=True) & invites


def find(hashed: str) -> Invitation:
    """Return the open invitation whose token has this hash.

    The sender must still be allowed to invite: an owner who was removed has no way back in.

    Raises:
        InvitationGone: no open invitation has it.
    """
    rows = Invitation.objects.select_related("tenant").filter(
        sender_may(), token_hash=hashed, accepted_at__isnull=True, expires_at__gt=timezone.now()
    )
    found = rows.first() if hashed else None
    if found is None:
        raise InvitationGone
    return found


def accept(hashed: str, user: Any) -> Membership:
    """Make the user a member; of two who open one link together, one.

    Raises:
        InvitationGone: there is no such open invitation any more.
        ValidationError: the user is a member already; the invitation stays open.
    """
    with generations.batch():
        invitation = find(hashed)
        if Membership.objects.filter(user_id=user.pk, tenant_id=invitation.tenant_id).exists():
            raise ValidationError(
                f"You are a member of {invitation.tenant} already: an owner of it can give you another role."
            )
        membership = Membership(user=user, tenant=invitation.tenant, role=invitation.role)
        membership.save()
        invitation.accepted_at, invitation.accepted_by, invitation.token_hash = timezone.now(), user, ""
        invitation.save()
    return membership
