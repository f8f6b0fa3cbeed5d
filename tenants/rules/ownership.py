"""Ownership of names: the one place that decides, for every way to write hostnames and claims.

Each name exists once. An exact name that another tenant's wildcard matches, a wildcard that matches another tenant's
names, and a name under a domain that another tenant has proved are conflicts, unless that tenant grants the name. Of
several proved domains that cover a name the most specific decides.

The checks run under the generation's lock, so of two tenants that want one name at once, the second finds the first's.
What is said to members never names the other tenant; operators are told by `blockers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from tenants.changes.audit_entry import CREATED, AuditEntry
from tenants.changes.querysets import chunks
from tenants.models.domain import Domain, VerifiedBy
from tenants.models.hostname import Hostname
from tenants.models.hostname_grant import HostnameGrant
from tenants.models.tenant import Tenant
from tenants.names import (
    all_covering,
    base_of,
    covering,
    is_public_suffix,
    is_wildcard,
    parent_of,
    reversed_labels,
    wildcard_over,
)

MOST_PENDING: Final = 100  # claims of one tenant that wait for their proof, since each is looked up again and again
MOST_MADE: Final = 200  # claims of one tenant in an hour, those included that were deleted again
SHOWN: Final = 20  # conflicts said at once

_ASK: Final = "Have its owner grant the name, or ask an operator to settle it."
UNDER_WILDCARD: Final = f"Another tenant's wildcard matches this name. {_ASK}"
OVER_NAMES: Final = f"This wildcard matches names of another tenant. {_ASK}"
UNDER_DOMAIN: Final = f"Another tenant has proved that this name is under a domain of its own. {_ASK}"
OVER_DOMAIN: Final = f"This wildcard matches a domain that another tenant has proved to be its own. {_ASK}"
NO_DOMAIN: Final = (
    "No domain of the tenant covers this name: claim its domain and prove that, or have the owner of the domain grant "
    "the name."
)
NAMES_UNDER_DOMAIN: Final = (
    "Another tenant has hostnames under this domain, so the claim cannot be proved yet: ask an operator to settle "
    "whose they are."
)


class Conflict(NamedTuple):
    """The reason why a tenant cannot have a hostname.

    Attributes:
        message: for any user; names no tenant.
        owner: key of the tenant that is in the way.
    """

    row: Hostname
    message: str
    owner: int | None


class _Claim(NamedTuple):
    """Something that is another tenant's, and in the way of a row unless that tenant grants the row's name."""

    row: Hostname
    message: str
    owner: int


# -- hostnames


def check_hostnames(rows: Sequence[Hostname], using: str) -> None:
    """Refuse hostnames that their tenants cannot have; those that keep name and tenant may stay.

    Raises:
        ValidationError: for ``name``.
    """
    found = conflicts(rows, using)
    if not found:
        return
    several = len(rows) > 1
    messages = [f"{each.row.name}: {each.message}" if several else each.message for each in found[:SHOWN]]
    if len(found) > SHOWN:
        messages.append(f"And {len(found) - SHOWN} more.")
    raise ValidationError({"name": messages})


def conflicts(rows: Sequence[Hostname], using: str = DEFAULT_DB_ALIAS) -> list[Conflict]:
    """Return what is wrong with new, renamed and moved hostnames in their normal form, at most one for each."""
    stored: dict[Any, tuple[str, int]] = {}
    keys = [row.pk for row in rows if row.pk is not None]
    for part in chunks(keys):
        found = Hostname._base_manager.using(using).filter(pk__in=part)
        stored |= {key: (name, tenant) for key, name, tenant in found.values_list("pk", "name", "tenant_id")}
    changed = [row for row in rows if stored.get(row.pk) != (row.name, row.tenant_id)]
    if not changed:
        return []
    around = _Around(changed, set(stored), using)
    refused = dict(around.taken())
    claims = [claim for row in changed if id(row) not in refused for claim in around.claims(row)]
    granted = _Grants(claims, using)
    for claim in claims:
        if id(claim.row) not in refused and not granted.covers(claim.owner, claim.row.tenant_id, claim.row.name):
            refused[id(claim.row)] = Conflict(*claim)
    return [refused[id(row)] for row in changed if id(row) in refused]


def uncovered(tenant_id: int, names: Iterable[str], using: str = DEFAULT_DB_ALIAS) -> set[str]:
    """Return the names that are neither under a proved domain of the tenant nor granted by who owns theirs."""
    wanted = set(names)
    domains = _proved(all_covering(wanted), using)
    owners = {name: _decides(name, domains) for name in wanted}
    claims = [
        _Claim(Hostname(tenant_id=tenant_id, name=name), "", owner)
        for name, owner in owners.items()
        if owner is not None and owner != tenant_id
    ]
    granted = _Grants(claims, using)
    held = {name for name, owner in owners.items() if owner == tenant_id}
    held |= {claim.row.name for claim in claims if granted.covers(claim.owner, tenant_id, claim.row.name)}
    return wanted - held


class _Around:
    """The neighbours of some hostnames, read in as many queries for a thousand as for one (but for `CHUNK`)."""

    def __init__(self, rows: Sequence[Hostname], leaving: set[Any], using: str) -> None:
        self._rows = rows
        names = {row.name for row in rows}
        suffixes = {base_of(name) for name in names if is_wildcard(name)}
        over = {wildcard_over(name) for name in names if not is_wildcard(name)} - {""}
        hostnames = Hostname._base_manager.using(using)
        self._owners: dict[str, set[int]] = {}
        for part in chunks(names | over):
            found = hostnames.filter(name__in=part).values_list("name", "tenant_id", "pk")
            for name, tenant, key in found:
                if key not in leaving:
                    self._owners.setdefault(name, set()).add(tenant)
        self._taken = set(self._owners)
        self._below: dict[str, set[int]] = {}
        for part in chunks(suffixes):
            below = hostnames.filter(parent__in=part)
            below = below.exclude(pk__in=leaving) if leaving else below
            for parent, tenant in below.order_by().values_list("parent", "tenant_id").distinct():
                self._below.setdefault(parent, set()).add(tenant)
        for row in rows:
            self._owners.setdefault(row.name, set()).add(row.tenant_id)
            self._below.setdefault(parent_of(row.name), set()).add(row.tenant_id)
        self._domains = _proved(all_covering(names), using)
        self._domains_below: dict[str, set[int]] = {}
        for part in chunks(suffixes):
            proved = _verified(using).filter(parent__in=part)
            for parent, tenant in proved.order_by().values_list("parent", "tenant_id").distinct():
                self._domains_below.setdefault(parent, set()).add(tenant)

    def taken(self) -> Iterator[tuple[int, Conflict]]:
        """Yield, by the row's identity, the names that exist already, in the registry or earlier among the rows."""
        [constraint] = [each for each in Hostname._meta.constraints if each.name == "hostname_name_unique"]
        message = str(constraint.violation_error_message)
        seen: set[str] = set()
        for row in self._rows:
            if row.name in self._taken or row.name in seen:
                yield id(row), Conflict(row, message, None)
            seen.add(row.name)

    def claims(self, row: Hostname) -> Iterator[_Claim]:
        """Yield what is in the row's way unless it is granted."""
        owner = _decides(row.name, self._domains)
        if owner is not None and owner != row.tenant_id:
            yield _Claim(row, UNDER_DOMAIN, owner)
        others: list[tuple[str, set[int]]]
        if is_wildcard(row.name):
            suffix = base_of(row.name)
            others = [
                (OVER_NAMES, self._below.get(suffix, set())),
                (OVER_DOMAIN, self._domains_below.get(suffix, set())),
            ]
        else:
            others = [(UNDER_WILDCARD, self._owners.get(wildcard_over(row.name), set()))]
        for message, tenants in others:
            for tenant in sorted(tenants - {row.tenant_id}):
                yield _Claim(row, message, tenant)


class _Grants:
    """Which of the names that are in another tenant's way are granted by that."""

    def __init__(self, claims: Sequence[_Claim], using: str) -> None:
        self._granted: set[tuple[int, int, str]] = set()
        grantees = {claim.row.tenant_id for claim in claims} - {None}
        if not grantees:
            return
        for part in chunks(all_covering(claim.row.name for claim in claims)):
            found = HostnameGrant._base_manager.using(using).filter(name__in=part, grantee_id__in=grantees)
            self._granted |= set(found.values_list("tenant_id", "grantee_id", "name"))

    def covers(self, owner: int, grantee: int | None, name: str) -> bool:
        """Tell whether the owner lets the other tenant have the name."""
        return any((owner, grantee, above) in self._granted for above in covering(name))


# -- domains


def check_domains(rows: Sequence[Domain], using: str) -> None:
    """Refuse claims that cannot be made, and proofs that come too late or against another tenant's hostnames.

    Raises:
        ValidationError: for ``name``; names no tenant.
    """
    stored: dict[Any, Domain] = {}
    for part in chunks(row.pk for row in rows if row.pk is not None):
        stored |= {row.pk: row for row in Domain._base_manager.using(using).filter(pk__in=part)}
    for row in rows:
        before = stored.get(row.pk)
        if before is not None and (row.name, row.tenant_id) != (before.name, before.tenant_id):
            raise ValidationError("A claim keeps its domain and its tenant: delete it, and claim the other domain.")
    _check_pending([row for row in rows if row.pk not in stored and not row.is_verified], using)
    proving = [row for row in rows if row.is_verified and not (row.pk in stored and stored[row.pk].is_verified)]
    for row in (*proving, *(row for row in rows if row.pk not in stored)):
        if row.verified_by != VerifiedBy.OPERATOR and is_public_suffix(row.name):
            raise ValidationError(
                {
                    "name": f"Different people register names under {row.name}: claim a domain below it, or ask an "
                    "operator to give this one."
                }
            )
    if proving:
        _check_proofs(proving, using)


def _check_pending(rows: Sequence[Domain], using: str) -> None:
    for tenant_id in {row.tenant_id for row in rows}:
        pending = Domain._base_manager.using(using).filter(tenant_id=tenant_id, verified_at__isnull=True).count()
        if pending + sum(row.tenant_id == tenant_id for row in rows) > MOST_PENDING:
            raise ValidationError(
                {
                    "name": f"{pending} claims of the tenant wait for their proof, {MOST_PENDING} may: prove some, or "
                    "delete some."
                }
            )
        made = AuditEntry.objects.using(using).filter(
            tenant_key=tenant_id,
            model=Domain._meta.label_lower,
            action=CREATED,
            instant__gt=timezone.now() - timedelta(hours=1),
        )
        if made.order_by()[:MOST_MADE].count() + sum(row.tenant_id == tenant_id for row in rows) > MOST_MADE:
            raise ValidationError(
                {"name": f"{MOST_MADE} claims of the tenant may be made in an hour, and were: wait for some time."}
            )


def _check_proofs(rows: Sequence[Domain], using: str) -> None:
    own = {row.pk for row in rows}
    standing: set[str] = set()
    for part in chunks(row.name for row in rows):
        standing |= set(_verified(using).filter(name__in=part).exclude(pk__in=own).values_list("name", flat=True))
    [constraint] = [each for each in Domain._meta.constraints if each.name == "domain_verified_name_unique"]
    for row in rows:
        if row.name in standing:
            raise ValidationError({"name": str(constraint.violation_error_message)})
        standing.add(row.name)
        if next(_foreign_names(row, using), None) is not None:
            raise ValidationError({"name": NAMES_UNDER_DOMAIN})


def blockers(domain: Domain, most: int = SHOWN, using: str = DEFAULT_DB_ALIAS) -> list[tuple[str, str]]:
    """Return what keeps a claim from being proved, for operators only: the first names, and their tenants' slugs."""
    found: list[tuple[str, int]] = []
    other = _verified(using).filter(name=domain.name).exclude(pk=domain.pk).first()
    if other is not None:
        found.append((other.name, other.tenant_id))
    for name, tenant_id in _foreign_names(domain, using):
        if len(found) >= most:
            break
        found.append((name, tenant_id))
    slugs = dict(Tenant._base_manager.using(using).filter(pk__in={key for _, key in found}).values_list("pk", "slug"))
    return [(name, slugs.get(key, "")) for name, key in found]


def _foreign_names(domain: Domain, using: str) -> Iterator[tuple[str, int]]:
    """Yield other tenants' hostnames that the domain would decide about, with their tenants.

    Those under a more specific proved domain are decided by that; those that the claiming tenant grants are settled.
    """
    prefix = reversed_labels(domain.name)
    within = _verified(using).filter(reversed_name__under=prefix).exclude(name=domain.name)
    inner = set(within.values_list("name", flat=True))
    granted = set(
        HostnameGrant._base_manager.using(using)
        .filter(tenant_id=domain.tenant_id, grantee__isnull=False)
        .values_list("grantee_id", "name")
    )
    names = Hostname._base_manager.using(using).filter(reversed_name__under=prefix).exclude(tenant_id=domain.tenant_id)
    for name, tenant_id in names.order_by().values_list("name", "tenant_id").iterator(chunk_size=2_000):
        above = covering(name)
        if inner.isdisjoint(above) and not any((tenant_id, each) in granted for each in above):
            yield name, tenant_id


# -- what members are told of


def names_granted_to(tenant_ids: Iterable[int], most: int, using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Return the names that these tenants may use by the grant of who owns them; who that is, is not told."""
    grants = HostnameGrant._base_manager.using(using).filter(grantee_id__in=list(tenant_ids)).order_by("name")
    found: dict[str, None] = {}
    for part in chunks(grants.values_list("name", "tenant_id").iterator(chunk_size=500)):
        domains = _proved(all_covering(name for name, _ in part), using)
        found |= {name: None for name, owner in part if _decides(name, domains) == owner}
        if len(found) >= most:
            break
    return list(found)[:most]


def _verified(using: str) -> Any:
    return Domain._base_manager.using(using).filter(verified_at__isnull=False)


def _proved(names: Iterable[str], using: str) -> dict[str, int]:
    """Return the tenants of the proved domains among these names."""
    found: dict[str, int] = {}
    for part in chunks(names):
        found |= dict(_verified(using).filter(name__in=part).values_list("name", "tenant_id"))
    return found


def _decides(name: str, domains: dict[str, int]) -> int | None:
    """Return the tenant of the most specific domain that covers the name."""
    return next((domains[above] for above in covering(name) if above in domains), None)
