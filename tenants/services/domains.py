"""Proof of claims to domains: look up their TXT records, and note in words what is wrong.

A look-up never runs inside the generation's lock; its result is written under it, with the claim read again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.db.models import F, Q, Window
from django.db.models.functions import Coalesce, RowNumber
from django.utils import timezone

from relay.logs import get_logger
from tenants.changes import generations
from tenants.changes.audit_entry import UPDATED, AuditEntry
from tenants.models.domain import RECORD_VALUE, Domain, VerifiedBy
from tenants.services.audit import journal
from tenants.services.owner_mail import mail_owners, refused_for_good
from tenants.services.txt_records import TxtAnswer, look_up

PAUSE: Final = timedelta(seconds=10)  # between two look-ups of one claim on request
MINUTE: Final = timedelta(minutes=1)
MAX_ASKED: Final = 10  # look-ups that the users of one tenant get in a minute: a DNS server may take its time
EVERY_RUN_FOR: Final = timedelta(days=7)  # age of a pending claim up to which each run of the job looks it up
DAILY_FOR: Final = timedelta(days=90)  # age up to which it is looked up once a day; later only on request
DAY: Final = timedelta(days=1)
MAX_LOOKUPS: Final = 500  # of one run; the next continues
AT_ONCE: Final = 16

log = get_logger(__name__)


def check(key: Any, using: str = DEFAULT_DB_ALIAS) -> None:
    """Look a claim up and write the result; a deleted claim, or one that an operator gave, is left alone."""
    claim = Domain._base_manager.using(using).filter(pk=key).first()
    if claim is not None and claim.verified_by != VerifiedBy.OPERATOR:
        settle(claim, look_up(claim.record_name), using)


def settle(claim: Domain, answer: TxtAnswer, using: str = DEFAULT_DB_ALIAS) -> None:
    """Write what the DNS answered about a claim: that it is proved, or what is wrong.

    A proved claim whose record is gone stays proved for settings.DOMAIN_GRACE_DAYS after its owners were told, or could
    not be reached.
    """
    problem, gone = answer.problem, False
    if not problem and claim.record_value not in answer.values:
        others = sum(value.startswith(RECORD_VALUE) for value in answer.values)
        problem = (
            f"The TXT record at {claim.record_name} says something else: add one that says {claim.record_value}, "
            f"{'beside that of another claim' if others else 'to the letter'}."
        )
    if problem:
        gone = claim.verified_by == VerifiedBy.DNS and not answer.failed
    else:
        try:
            _prove(claim, using)
        except ValidationError as error:
            # The record is there; another tenant or an operator has to remove the obstacle.
            problem = " ".join(error.messages)
    rows = Domain._base_manager.using(using).filter(pk=claim.pk)
    changes: dict[str, Any] = {} if problem == claim.problem else {"problem": problem}
    if gone and claim.missing_since is None and not _told_lately(claim, using) and _tell(claim, problem, using):
        changes["missing_since"] = timezone.now()
    elif not problem and claim.missing_since is not None:
        changes["missing_since"] = None
    if changes:
        rows.filter(token=claim.token, verified_by=claim.verified_by).update(**changes)
    if gone and claim.missing_since is not None:
        _let_lapse(claim, using)
    rows.update(checked_at=timezone.now())


def _prove(claim: Domain, using: str) -> None:
    with generations.batch(using):
        row = Domain._base_manager.using(using).filter(pk=claim.pk, token=claim.token).first()
        if row is None or row.is_verified:
            return
        row.prove(VerifiedBy.DNS)
        row.save(using=using)
    log.info("domain proved", domain=row.name, tenant=row.tenant_id)


def lapses_at(claim: Domain) -> datetime | None:
    """Return when a claim whose record is gone will wait for its proof again; None where it will not."""
    if claim.missing_since is None or not settings.DOMAIN_GRACE_DAYS:
        return None
    return claim.missing_since + timedelta(days=settings.DOMAIN_GRACE_DAYS)


def _told_lately(claim: Domain, using: str) -> bool:
    """Return whether the record went or came back within a day, so that an unstable record causes no flood of mails.

    The audit trail knows, also of a claim that was deleted and created again.
    """
    entries = AuditEntry.objects.using(using).filter(
        tenant_key=claim.tenant_id,
        model=Domain._meta.label_lower,
        object_text=str(claim),
        action=UPDATED,
        instant__gt=timezone.now() - DAY,
        changes__has_key="missing_since",
    )
    return entries.order_by().exists()


def _tell(claim: Domain, problem: str, using: str) -> bool:
    """Tell the owners that the record is gone; return whether the grace begins.

    No tenant loses a claim because a mail server is down; but an address that no server accepts does not keep one.
    """
    log.warning("proved domain without its record", domain=claim.name, tenant=claim.tenant_id, problem=problem)
    days = settings.DOMAIN_GRACE_DAYS
    body = (
        f"{claim.name} is proved to be {claim.tenant}'s, but the record that proves it is gone. {problem}\n\n"
        f'Put it back:\n\n  {claim.record_name}. IN TXT "{claim.record_value}"\n\n'
    )
    if days:
        body += (
            f"If it stays away for {days} days, the claim waits for its proof again: hostnames under {claim.name} that "
            "are in the registry go on, and no others can be added.\n"
        )
    try:
        mail_owners(claim.tenant, f"the record of {claim.name} is gone", body)
    except (OSError, ValueError) as error:  # SMTP's errors are OSErrors
        # Not its text: a mail server's answer may hold what it was told.
        said = {"domain": claim.name, "tenant": claim.tenant_id, "error": type(error).__name__}
        if not refused_for_good(error):
            log.warning("lost record not told", **said)
            return False
        log.warning(
            "lost record not told: the owners' mail is refused for good, so the days of grace begin all the same",
            **said,
            remedy="reach an owner otherwise, and mend the address in the list of users",
        )
        journal.record("owners not told", claim, changes={"error": type(error).__name__}, using=using)
    return True


def _let_lapse(claim: Domain, using: str) -> None:
    """Take the proof from a claim whose record has been gone for long enough."""
    end = lapses_at(claim)
    if end is None or end > timezone.now():
        return
    with generations.batch(using):
        same = {"token": claim.token, "verified_by": VerifiedBy.DNS, "missing_since": claim.missing_since}
        row = Domain._base_manager.using(using).filter(pk=claim.pk, **same).first()
        if row is None:
            return
        row.lapse(
            f"It was proved once, but its TXT record has been gone since {row.missing_since:%Y-%m-%d}. Publish it "
            "again, and have it looked up."
        )
        row.save(using=using)
    log.warning("proof of a domain has lapsed", domain=row.name, tenant=row.tenant_id)


def may_check(claim: Domain) -> bool:
    """Return whether the claim may be looked up on request now: not again within `PAUSE`."""
    return claim.checked_at is None or claim.checked_at <= timezone.now() - PAUSE


def checks_left(tenant_id: int, using: str = DEFAULT_DB_ALIAS) -> int:
    """Return how many look-ups the users of a tenant may request now."""
    lately = Domain.objects.using(using).filter(tenant_id=tenant_id, checked_at__gt=timezone.now() - MINUTE)
    return MAX_ASKED - lately.order_by()[:MAX_ASKED].count()


def check_asked(key: Any, using: str = DEFAULT_DB_ALIAS) -> None:
    """Look a claim up on request, as `check` does, within the limits: repeated requests get one look-up."""
    claim = Domain._base_manager.using(using).filter(pk=key).first()
    if claim is not None and may_check(claim) and checks_left(claim.tenant_id, using) > 0:
        check(key, using)


def recheck() -> str:
    """Look up the claims that are due; return the result in words."""
    now = timezone.now()
    rested = Q(checked_at__isnull=True) | Q(checked_at__lte=now - DAY)
    pending = Q(verified_at__isnull=True)
    due = pending & Q(created_at__gt=now - EVERY_RUN_FOR)
    due |= pending & Q(created_at__gt=now - DAILY_FOR) & rested
    due |= Q(verified_by=VerifiedBy.DNS) & rested
    # The tenants take turns, each with what has waited longest: so no tenant delays the others.
    waits_since = Coalesce("checked_at", "created_at")
    turn = Window(RowNumber(), partition_by="tenant", order_by=[waits_since.asc(), F("pk").asc()])
    claims = list(Domain.objects.filter(due).order_by(turn, waits_since, "pk")[:MAX_LOOKUPS])
    if not claims:
        return ""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(look_up, (claim.record_name for claim in claims)))
    for claim, answer in zip(claims, answers, strict=True):
        try:
            settle(claim, answer)
        except Exception as error:  # a failure of one claim must not keep the others from being settled
            log.error("claim not settled", domain=claim.name, tenant=claim.tenant_id, error=type(error).__name__)
            Domain.objects.filter(pk=claim.pk).update(checked_at=timezone.now())
    proved = Domain.objects.filter(
        pk__in=[each.pk for each in claims if not each.is_verified], verified_at__isnull=False
    )
    return f"{len(claims)} looked up, {proved.count()} proved"
