"""Proves claims to domains: looks up their TXT records, and notes in words what is wrong.

A look-up never runs inside the generation's lock; what it found is written under it, with the claim read anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import dns.exception
import dns.nameserver
import dns.resolver
import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.db.models import F, Q
from django.utils import timezone

from tenants.models.domain import RECORD_VALUE, Domain, VerifiedBy
from tenants.querysets import chunks
from tenants.services import generations

PAUSE: Final = timedelta(seconds=10)  # between two look-ups of one claim that somebody asks for
YOUNG: Final = timedelta(days=7)  # that a claim is looked up by every run of the job, then once a day
PATIENCE: Final = timedelta(days=90)  # after which a pending claim is looked up only when somebody asks
DAILY: Final = timedelta(days=1)
MOST: Final = 500  # look-ups of one run; the next goes on
AT_ONCE: Final = 16

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS said.

    Attributes:
        values: texts of the TXT records.
        problem: why there are none; empty where there are.
    """

    values: frozenset[str] = frozenset()
    problem: str = ""


def look_up(name: str) -> Answer:
    """Ask for the TXT records of this very name.

    No alias is followed: behind a wildcard's CNAME is somebody else's server, whose records prove nothing here.
    """
    try:
        found = _resolver().resolve(name, "TXT", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return Answer(
            problem=f"There is no TXT record at {name}. Resolvers may remember for a while that there was none."
        )
    except dns.exception.Timeout:
        return Answer(problem=f"No DNS server answered for {name} within {settings.DNS_TIMEOUT} seconds.")
    except (dns.exception.DNSException, OSError) as error:
        return Answer(problem=f"The DNS servers do not answer properly for {name} ({type(error).__name__}).")
    if found.canonical_name != found.qname:
        return Answer(problem=f"{name} is an alias (CNAME or DNAME): put a TXT record there itself.")
    return Answer(frozenset(b"".join(record.strings).decode("utf-8", "replace") for record in found))


def _resolver() -> dns.resolver.Resolver:
    own = settings.DNS_RESOLVERS
    resolver = dns.resolver.Resolver(configure=not own)
    if own:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in own]
    resolver.lifetime = float(settings.DNS_TIMEOUT)
    return resolver


def check(key: Any, using: str = DEFAULT_DB_ALIAS) -> None:
    """Look a claim up and write what comes of it; one that is gone, or was given, is left alone."""
    claim = Domain._base_manager.using(using).filter(pk=key).first()
    if claim is not None and claim.verified_by != VerifiedBy.OPERATOR:
        settle(claim, look_up(claim.record_name), using)


def settle(claim: Domain, answer: Answer, using: str = DEFAULT_DB_ALIAS) -> None:
    """Write what the DNS said about a claim: that it is proved, or what is wrong. A proved claim stays proved."""
    problem = answer.problem
    if not problem and claim.record_value not in answer.values:
        others = sum(value.startswith(RECORD_VALUE) for value in answer.values)
        problem = (
            f"The TXT record at {claim.record_name} says something else: add one that says {claim.record_value}, "
            f"{'beside that of another claim' if others else 'to the letter'}."
        )
    if not problem:
        try:
            _prove(claim, using)
        except ValidationError as error:
            # The record is there; what keeps the claim from standing is for somebody else to settle.
            problem = " ".join(error.messages)
    _note([(claim, problem)], using)


def _prove(claim: Domain, using: str) -> None:
    with generations.batch(using):
        row = Domain._base_manager.using(using).filter(pk=claim.pk, token=claim.token).first()
        if row is None or row.is_verified:
            return
        row.prove(VerifiedBy.DNS)
        row.save(using=using)
    log.info("domain proved", domain=row.name, tenant=row.tenant_id)


def _note(found: Iterable[tuple[Domain, str]], using: str) -> None:
    """Write problems where they are others than before, and that all of these were looked up."""
    keys: list[Any] = []
    rows = Domain._base_manager.using(using)
    for claim, problem in found:
        keys.append(claim.pk)
        if problem and claim.is_verified and not claim.problem:
            log.warning("proved domain without its record", domain=claim.name, tenant=claim.tenant_id, problem=problem)
        if problem != claim.problem:
            rows.filter(pk=claim.pk).update(problem=problem)
    for part in chunks(keys):
        rows.filter(pk__in=part).update(checked_at=timezone.now())


def may_check(claim: Domain) -> bool:
    """Tell whether somebody may have the claim looked up now: not again within `PAUSE`."""
    return claim.checked_at is None or claim.checked_at <= timezone.now() - PAUSE


def recheck() -> str:
    """Look up the claims whose turn it is; return what came of it, in words."""
    now = timezone.now()
    rested = Q(checked_at__isnull=True) | Q(checked_at__lte=now - DAILY)
    pending = Q(verified_at__isnull=True)
    due = pending & Q(created_at__gt=now - YOUNG)
    due |= pending & Q(created_at__gt=now - PATIENCE) & rested
    due |= Q(verified_by=VerifiedBy.DNS) & rested
    claims = list(Domain.objects.filter(due).order_by(F("checked_at").asc(nulls_first=True), "pk")[:MOST])
    if not claims:
        return ""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(look_up, (claim.record_name for claim in claims)))
    for claim, answer in zip(claims, answers, strict=True):
        settle(claim, answer)
    proved = Domain.objects.filter(
        pk__in=[each.pk for each in claims if not each.is_verified], verified_at__isnull=False
    )
    return f"{len(claims)} looked up, {proved.count()} proved"
