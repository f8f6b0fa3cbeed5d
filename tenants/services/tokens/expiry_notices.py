"""Tells owners, operators and a webhook 30, 7 and 1 days before a token ends, and when it has ended: each once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.utils import timezone

from relay.logs import get_logger
from tenants.changes.querysets import chunks
from tenants.models import Credential, ExpiryNotice, NoticeChannel, Tenant
from tenants.services import webhook
from tenants.services.diagnostics import EXPIRES_SOON, NOTICE_DAYS
from tenants.services.owner_mail import is_of_one_mail, mail_owners

ENDED: Final = 0  # days
LISTED: Final = 100  # tokens in one mail

log = get_logger(__name__)


class TokenEnding(NamedTuple):
    """A token that ends.

    Attributes:
        credential: with its backend and tenant.
        until: when it ends, or the next one that takes over in time.
        days: which of `NOTICE_DAYS` is reached; `ENDED` where it has ended.
    """

    credential: Credential
    until: datetime
    days: int


def send_due() -> str:
    """Send what is due and has not been sent; say how much. What could not be sent is tried at the next run."""
    endings = _endings(timezone.now())
    told = _told(endings)
    by_tenant: dict[Tenant, list[TokenEnding]] = defaultdict(list)
    for ending in endings:
        by_tenant[ending.credential.backend.tenant].append(ending)
    sent = dict.fromkeys(NoticeChannel, 0)
    down: set[NoticeChannel] = set()
    for tenant, of_tenant in by_tenant.items():
        for channel, send in (NoticeChannel.MAIL, _mail), (NoticeChannel.WEBHOOK, _post):
            due = [each for each in of_tenant if _is_due(each, channel, told)]
            if not due or channel in down:
                continue
            error = _send(send, channel, tenant, due)
            if error is None:
                sent[channel] += len(due)
            elif not _is_of_one_tenant(error):
                down.add(channel)  # one attempt a run: a server that is down would hold up every tenant
    return ", ".join(f"{number} tokens told by {channel}" for channel, number in sent.items() if number)


def _endings(now: datetime) -> list[TokenEnding]:
    soon = Credential.objects.filter(
        valid_until__lte=now + EXPIRES_SOON, backend__enabled=True, backend__tenant__enabled=True
    )
    rows = soon.select_related("backend__tenant").order_by("backend__tenant__slug", "valid_until", "pk")
    return [TokenEnding(row, row.valid_until, days_reached(row.valid_until, now)) for row in rows if row.valid_until]


def days_reached(until: datetime, now: datetime) -> int:
    """Return the last of `NOTICE_DAYS` that is reached, `ENDED` behind the end."""
    if until <= now:
        return ENDED
    return min(days for days in NOTICE_DAYS if until - now <= timedelta(days=days))


def _told(endings: Iterable[TokenEnding]) -> dict[tuple[int, datetime, str], int]:
    """Return the fewest days before the end of which was told already, by credential, end and channel."""
    told: dict[tuple[int, datetime, str], int] = {}
    for part in chunks(ending.credential.pk for ending in endings):
        rows = ExpiryNotice.objects.filter(credential__in=part)
        for key, until, days, channel in rows.values_list("credential_id", "valid_until", "days", "channel"):
            told[key, until, channel] = min(days, told.get((key, until, channel), days))
    return told


def _is_due(ending: TokenEnding, channel: NoticeChannel, told: dict[tuple[int, datetime, str], int]) -> bool:
    if channel is NoticeChannel.WEBHOOK and not settings.WARNING_WEBHOOK_URL:
        return False
    before = told.get((ending.credential.pk, ending.until, channel.value))
    return before is None or ending.days < before


def _send(
    send: Callable[[Tenant, list[TokenEnding]], None], channel: NoticeChannel, tenant: Tenant, due: list[TokenEnding]
) -> Exception | None:
    try:
        send(tenant, due)
    except (OSError, SMTPException, ValueError, webhook.WebhookError) as error:
        log.warning("expiring tokens not told", channel=channel.value, tenant=tenant.slug, error=_words(error))
        return error
    ExpiryNotice.objects.bulk_create(
        [
            ExpiryNotice(credential=each.credential, valid_until=each.until, days=each.days, channel=channel)
            for each in due
        ],
        ignore_conflicts=True,
    )
    return None


def _is_of_one_tenant(error: Exception) -> bool:
    """Tell whether the others can be told all the same: an address may be refused, or what a tenant's tokens are."""
    return error.answered if isinstance(error, webhook.WebhookError) else is_of_one_mail(error)


def _words(error: Exception) -> str:
    # A mail server's answer may hold what it was told.
    return str(error) if isinstance(error, webhook.WebhookError) else type(error).__name__


def _mail(tenant: Tenant, due: list[TokenEnding]) -> None:
    lines = [f"  {_line(ending)}" for ending in due[:LISTED]]
    if len(due) > LISTED:
        lines.append(f"  and {len(due) - LISTED} more")
    number = f"{len(due)} tokens end" if len(due) > 1 else "A token ends"
    body = (
        f"Tokens of {tenant} that end, or have ended:\n\n" + "\n".join(lines) + "\n\nNodes refuse a token that "
        "has ended. Enter a new one on the backend's page; a next one can be put beside it, with the instant from "
        "which it serves.\n"
    )
    mail_owners(tenant, number, body)


def _line(ending: TokenEnding) -> str:
    when = "ended" if ending.days == ENDED else "ends"
    return f"{ending.credential.backend.name}: {when} on {ending.until:%Y-%m-%d %H:%M} UTC"


def _post(tenant: Tenant, due: list[TokenEnding]) -> None:
    content: list[dict[str, Any]] = [
        {
            "backend": ending.credential.backend.name,
            "fingerprint": ending.credential.fingerprint,
            "valid_until": ending.until.isoformat(),
            "days": ending.days,
        }
        for ending in due
    ]
    webhook.post("tokens.expiring", {"tenant": tenant.slug, "tokens": content})
