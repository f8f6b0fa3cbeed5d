"""ExpiryNotice: a notice that a token ends, which was sent."""

from __future__ import annotations

from django.db import models

from tenants.models.credential import Credential


class NoticeChannel(models.TextChoices):
    """The way a notice went."""

    MAIL = "mail", "mail"
    WEBHOOK = "webhook", "webhook"


class ExpiryNotice(models.Model):
    """Remembers that the end of a credential's token was told so many days before, so that it is told once.

    Nothing is routed by it and no user edits it, so it is not a `RegistryModel`.
    """

    tenant_lookup = "credential__backend__tenant"

    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, related_name="expiry_notices")
    valid_until = models.DateTimeField()
    days = models.PositiveSmallIntegerField(help_text="At most so many days before; 0: the token has ended.")
    channel = models.CharField(max_length=10, choices=NoticeChannel.choices)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-sent_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["credential", "valid_until", "days", "channel"],
                name="expirynotice_unique",
                violation_error_message="This was told already.",
            ),
            models.CheckConstraint(
                condition=models.Q(channel__in=NoticeChannel.values),
                name="expirynotice_channel_known",
                violation_error_message="Notices go by mail or to the webhook.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.credential}: {self.days} days before {self.valid_until:%Y-%m-%d}, by {self.channel}"
