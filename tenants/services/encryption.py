"""Re-encryption of every stored secret with the newest key, while everything runs.

A value counts as done when the newest key alone opens it, so a run that was interrupted is simply run again. Users and
relays see no change: no generation is numbered and nothing is written to the audit trail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.lookups import Exact
from django.views.decorators.debug import sensitive_variables

from tenants.fields import EncryptedTextField, Sealed, encryption_box, newest_box

Progress = Callable[[str, int, int], None]
"""Is told a field's name, how many of its values are looked at, and how many there are."""


@dataclass(slots=True)
class Reencryption:
    """Counts of a run.

    Attributes:
        total: values that are stored.
        done: those that the newest key had encrypted already.
        renewed: those that were re-encrypted; with ``check`` those that would be.
        left: places of values that no key opens, as ``tenants.Credential.secret of row 7``.
    """

    total: int = 0
    done: int = 0
    renewed: int = 0
    left: list[str] = field(default_factory=list)


def encrypted_fields() -> Iterator[EncryptedTextField]:
    """Yield every encrypted field of every installed model."""
    for model in apps.get_models():
        for each in model._meta.local_concrete_fields:
            if isinstance(each, EncryptedTextField):
                yield each


def reencrypt(
    *,
    check: bool = False,
    batch: int = 500,
    using: str = DEFAULT_DB_ALIAS,
    progress: Progress = lambda what, done, total: None,
) -> Reencryption:
    """Re-encrypt every value that the newest key did not encrypt.

    Args:
        check: only count.
        batch: rows read at once.
        using: alias of the database.
        progress: is told how far it is.

    Raises:
        ImproperlyConfigured: FIELD_ENCRYPTION_KEYS holds no valid key.
    """
    encryption_box()
    found = Reencryption()
    for each in encrypted_fields():
        # Not the model's own manager, whose update() would number a change and put it on record.
        rows: models.QuerySet[Any] = models.QuerySet(each.model, using=using).filter(
            **{f"{each.attname}__isnull": False}
        )
        total, seen, last = rows.count(), 0, None
        while True:
            part = rows.order_by("pk") if last is None else rows.filter(pk__gt=last).order_by("pk")
            values = list(part.values_list("pk", each.attname)[:batch])
            if not values:
                break
            for key, sealed in values:
                _renew(each, key, sealed, check, using, found)
            last, seen = values[-1][0], seen + len(values)
            progress(each.where, seen, max(seen, total))
    return found


def _renew(each: EncryptedTextField, key: Any, sealed: Sealed, check: bool, using: str, found: Reencryption) -> None:
    found.total += 1
    renewed = _renewed(sealed)
    if renewed is None:
        found.left.append(f"{each.where} of row {key}")
    elif renewed == sealed.ciphertext:
        found.done += 1
    elif check or _swap(each, key, sealed, renewed, using):
        found.renewed += 1
    else:
        found.done += 1  # another one was just saved, with the newest key


@sensitive_variables()
def _renewed(sealed: Sealed) -> str | None:
    """Return the ciphertext as it is where the newest key opens it, else a new one; None where no key does."""
    try:
        newest_box().decrypt(sealed.ciphertext.encode())
    except (InvalidToken, UnicodeError):
        try:
            return encryption_box().rotate(sealed.ciphertext.encode()).decode()
        except (InvalidToken, UnicodeError):
            return None
    return sealed.ciphertext


def _swap(each: EncryptedTextField, key: Any, old: Sealed, new: str, using: str) -> bool:
    """Replace the old ciphertext; return False where it has changed meanwhile."""
    rows: models.QuerySet[Any] = models.QuerySet(each.model, using=using).filter(pk=key)
    # Encrypted fields have no look-ups, so that no code compares secrets by accident; this compares ciphertexts.
    same = rows.filter(Exact(models.F(each.attname), models.Value(old, output_field=each)))
    return bool(same.update(**{each.attname: Sealed(new, each.where)}))
