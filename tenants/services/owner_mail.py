"""Mail to the owners of a tenant."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage

from tenants.models import Role, Tenant


def mail_owners(tenant: Tenant, subject: str, body: str) -> None:
    """Write to the tenant's owners and to settings.WARNING_MAIL_TO; without recipients, do nothing.

    Raises:
        OSError, smtplib.SMTPException: the mail server did not take it.
        ValueError: an address cannot be written into a mail.
    """
    owners = get_user_model()._default_manager.filter(
        is_active=True, memberships__tenant=tenant, memberships__role=Role.OWNER
    )
    addresses = list(owners.exclude(email="").order_by("pk").values_list("email", flat=True).distinct())
    recipients = [*addresses, *settings.WARNING_MAIL_TO]
    if recipients:
        # Each owner sees the own address only: they may have no business with the operators'.
        EmailMessage(subject=f"[nexusadmin] {tenant.slug}: {subject}", body=body, bcc=recipients).send()


def is_of_one_mail(error: Exception) -> bool:
    """Return whether `mail_owners` failed because of this mail's recipients or text, so that other mails may go out."""
    from smtplib import SMTPDataError, SMTPRecipientsRefused

    return isinstance(error, SMTPRecipientsRefused | SMTPDataError | ValueError)


def refused_for_good(error: Exception) -> bool:
    """Return whether these addresses or this text are refused permanently, so that a retry would fail too."""
    from smtplib import SMTPDataError, SMTPRecipientsRefused

    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, SMTPDataError):
        return error.smtp_code >= 500
    return is_of_one_mail(error)
