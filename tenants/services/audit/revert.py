"""Reversal of a recorded change: by the normal ways to write, with every check and the rights of the user who asks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.admin.utils import NestedObjects
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS, IntegrityError, models
from django.views.decorators.debug import sensitive_variables

from relay.errors import shorten
from tenants.changes import generations
from tenants.changes.audit_entry import CREATED, DELETED, UPDATED, AuditEntry
from tenants.changes.base import RegistryModel
from tenants.changes.differences import snapshot_changes
from tenants.changes.querysets import chunks
from tenants.fields import EncryptedTextField
from tenants.services.access.permissions import check_row, is_operator
from tenants.services.audit import journal
from tenants.services.audit.presentation import in_words, model_of

MOST_ROWS: Final = 2_000
"""Made again at a time: each is checked like one that is entered, while all who write wait."""


class CanNotRevert(Exception):
    """The entry cannot be taken back; the text says why, for users who may see the entry."""


@dataclass(frozen=True, slots=True)
class Reverted:
    """What was done.

    Attributes:
        done: in words.
        left: what could not be brought back, in words: secrets, and what needs one.
    """

    done: str
    left: tuple[str, ...] = ()


def revert(entry: AuditEntry, user: Any) -> Reverted:
    """Take back what the entry tells of: all of it, or nothing.

    Raises:
        CanNotRevert: it has changed since, a rule forbids it, or the user may not.
    """
    model = revertible_model(entry)
    entry_text = f"{entry.action} {model._meta.verbose_name} {entry.object_text}"
    try:
        with generations.batch():
            take_back = {CREATED: _delete_again, UPDATED: _change_back, DELETED: _make_again}[entry.action]
            result = take_back(entry, model, user)
            journal.record("reverted", text=entry_text, tenant=_Owner.of(entry), changes={"entry": entry.pk})
    except ValidationError as error:
        raise CanNotRevert(f"Nothing was changed, because of a rule: {_said(error)}") from None
    except IntegrityError:
        raise CanNotRevert(
            "Nothing was changed: the database refused it, since it contradicts rows that are there now."
        ) from None
    return result


def revertible_model(entry: AuditEntry) -> type[RegistryModel]:
    """Return the model of an entry that could be taken back.

    Raises:
        CanNotRevert: it is not about a row of the registry.
    """
    model = model_of(entry)
    if entry.action not in (CREATED, UPDATED, DELETED) or model is None or not issubclass(model, RegistryModel):
        raise CanNotRevert("Only changes of the registry's own rows can be reverted.")
    return model


@dataclass(frozen=True, slots=True)
class _Owner:
    """The tenant of an entry, which may be gone."""

    pk: int
    slug: str

    @classmethod
    def of(cls, entry: AuditEntry) -> _Owner | None:
        return None if entry.tenant_key is None else cls(entry.tenant_key, entry.tenant_slug)


def _said(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        f"{name.replace('_', ' ')}: {' '.join(ValidationError(items).messages)}"
        for name, items in error.message_dict.items()
    )


# -- one row


def _stored(model: type[RegistryModel], entry: AuditEntry, user: Any) -> Any:
    """Return the row that the user may change."""
    row: Any = model.objects.for_user(user).filter(pk=entry.object_id).first()
    if row is None:
        raise CanNotRevert(f"The {model._meta.verbose_name} no longer exists, so there is nothing to revert.")
    _check_editable(model, row, user)
    return row


def _check_editable(model: type[RegistryModel], row: Any, user: Any) -> None:
    if not model.objects.editable_by(user).filter(pk=row.pk).exists():
        raise CanNotRevert(f"You may look at this {model._meta.verbose_name}, but not change it.")


def _change_back(entry: AuditEntry, model: type[RegistryModel], user: Any) -> Reverted:
    if not is_operator(user) and model.operator_fields & set(entry.changes):
        raise CanNotRevert("Something of this only operators may set: ask one of them to revert it.")
    row = _stored(model, entry, user)
    stored = model._base_manager.get(pk=row.pk)
    fields = {name: _field(model, name) for name in entry.changes}
    _refuse_if_changed(row, {name: pair[1] for name, pair in entry.changes.items() if fields[name].editable})
    left = []
    for name, (before, _) in entry.changes.items():
        field = fields[name]
        if not field.editable:
            continue  # it follows from others, as from the secret that is there now
        if isinstance(field, EncryptedTextField):
            left.append(f"{field.verbose_name}: the trail holds no secrets, enter it again")
        else:
            setattr(row, field.attname, recorded_value(field, before))
    row.full_clean()  # what follows from a secret follows it again
    if not row.differs_from(stored):
        raise CanNotRevert(
            "Nothing of this can be given back: the trail holds no secrets, and what else changed follows from them "
            "or from what the registry found out. Enter it again."
        )
    check_row(user, row, stored)
    row.save()
    _check_editable(model, row, user)
    return Reverted(f"The {model._meta.verbose_name} {row} is as it was before.", tuple(left))


def _refuse_if_changed(row: Any, expected: dict[str, Any]) -> None:
    """Refuse where fields do not hold any more what the entry made of them."""
    now = snapshot_changes(row, DEFAULT_DB_ALIAS)
    other = [
        f"{_field(type(row), name).verbose_name} is {_shown(now.get(name))}, not {_shown(value)}"
        for name, value in expected.items()
        if not _same(now.get(name), value)
    ]
    if other:
        raise CanNotRevert(
            f"The {row._meta.verbose_name} has changed since: {'; '.join(other)}. Change it by hand, or revert the "
            "later entries first."
        )


def _same(now: Any, then: Any) -> bool:
    if isinstance(now, dict) and isinstance(then, dict) and "id" in now and "id" in then:
        return bool(now["id"] == then["id"])
    return bool(now == then) or (now in _NOTHING and then in _NOTHING)


_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def _shown(value: Any) -> str:
    return shorten(in_words(value) or "nothing")


def _field(model: type[models.Model], name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        raise CanNotRevert(f"The field {name!r} no longer exists.") from None


def recorded_value(field: Any, recorded: Any) -> Any:
    """Return what a field held, from what the trail says of it."""
    if recorded is None:
        # Of rows that came or went, empty values are not kept.
        return None if field.null else field.get_default() if field.has_default() else field.to_python("")
    if isinstance(recorded, dict):
        if isinstance(field, models.ForeignKey):
            return recorded["id"]
        if isinstance(field, models.BinaryField):
            return base64.b64decode(recorded["base64"])
    return field.to_python(recorded)


# -- creations


def _delete_again(entry: AuditEntry, model: type[RegistryModel], user: Any) -> Reverted:
    row = _stored(model, entry, user)
    collector = NestedObjects(using=DEFAULT_DB_ALIAS, origin=[row])
    collector.collect([row])
    found: Any = collector.model_objs
    for each_model, rows in found.items():
        for part in chunks([str(each.pk) for each in rows]):
            later = AuditEntry.objects.filter(
                model=each_model._meta.label_lower, object_id__in=part, pk__gt=entry.pk
            ).exclude(batch=entry.batch)
            first = later.order_by("pk").first()
            if first is not None:
                named = ", ".join(first.changes) if first.action == UPDATED else first.action
                raise CanNotRevert(
                    f"The {each_model._meta.verbose_name} {first.object_text} has changed since ({named}): revert that "
                    "first, or delete it by hand."
                )
    text = str(row)
    check_row(user, None, row)
    row.delete()
    return Reverted(f"The {model._meta.verbose_name} {text} is deleted again.")


# -- deletions


@sensitive_variables("row")
def _make_again(entry: AuditEntry, model: type[RegistryModel], user: Any) -> Reverted:
    """Make the row again, with its key, and the rows below it that were deleted with it."""
    if not is_operator(user) and not model.edit_roles:
        raise CanNotRevert(f"You may not make a {model._meta.verbose_name}.")
    made: dict[tuple[type[RegistryModel], str], Any] = {}
    left: list[str] = []
    for each in _with_rows_below(entry, model):
        each_model = revertible_model(each)
        row = _revived(each, each_model)
        lacking = [
            field
            for name in each.changes
            if isinstance(field := _field(each_model, name), EncryptedTextField)
        ]  # fmt: skip
        try:
            if any(not field.null for field in lacking):
                raise ValidationError({lacking[0].name: "It cannot be without its secret."})
            row.full_clean()
        except ValidationError as error:
            if each.pk == entry.pk or not lacking:
                raise
            left.append(f"{each.object_text}: {_said(error)} The trail holds no secrets.")
            continue
        left += [f"{each.object_text}, {field.verbose_name}: the trail holds no secrets" for field in lacking]
        check_row(user, row, None)
        row.save(force_insert=True)
        left += _not_given_back(each, row)
        made[each_model, each.object_id] = row
    for each_model in {each_model for each_model, _ in made}:
        keys = [key for found, key in made if found is each_model]
        allowed = {
            str(key)
            for part in chunks(keys)
            for key in each_model.objects.editable_by(user).filter(pk__in=part).values_list("pk", flat=True)
        }
        if len(allowed) < len(keys):
            raise CanNotRevert(f"You may not make a {each_model._meta.verbose_name} of this tenant.")
    below = len(made) - 1
    return Reverted(
        f"The {model._meta.verbose_name} {entry.object_text} is there again"
        + (f", with {below} rows below it." if below else "."),
        tuple(left),
    )


def _with_rows_below(entry: AuditEntry, model: type[RegistryModel]) -> list[AuditEntry]:
    """Return the entry and those of its batch whose rows were below its row, each behind the rows above it."""
    if model._base_manager.filter(pk=entry.object_id).exists():
        raise CanNotRevert(f"The {model._meta.verbose_name} is there again already.")
    candidates = AuditEntry.objects.filter(batch=entry.batch, action=DELETED).exclude(pk=entry.pk).order_by("pk")
    if entry.tenant_key is not None:
        candidates = candidates.filter(tenant_key=entry.tenant_key)
    by_parent: dict[tuple[str, Any], list[AuditEntry]] = {}
    for each in candidates.iterator():
        each_model = model_of(each)
        if each_model is None or not issubclass(each_model, RegistryModel):
            continue
        for field in each_model._meta.concrete_fields:
            pair = each.changes.get(field.name)
            if isinstance(field, models.ForeignKey) and pair and pair[0]:
                parent: Any = field.related_model
                by_parent.setdefault((parent._meta.label_lower, str(pair[0]["id"])), []).append(each)
    found: dict[int, AuditEntry] = {entry.pk: entry}
    rows, left = [entry], [entry]
    while left:
        parent_entry = left.pop(0)
        for each in by_parent.get((parent_entry.model, parent_entry.object_id), ()):
            if each.pk not in found:
                found[each.pk] = each
                rows.append(each)
                left.append(each)
    if len(rows) > MOST_ROWS:
        raise CanNotRevert(
            f"{len(rows)} rows would be made again: {MOST_ROWS} at most. Restore them from a backup, or revert the "
            "entries of its parts one by one."
        )
    return _parents_first(rows)


def _parents_first(rows: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Return the entries in an order in which their rows can be made."""
    waiting = {(each.model, each.object_id): each for each in rows}
    ordered: list[AuditEntry] = []

    def place(each: AuditEntry) -> None:
        if waiting.pop((each.model, each.object_id), None) is None:
            return
        for field in revertible_model(each)._meta.concrete_fields:
            pair = each.changes.get(field.name)
            if isinstance(field, models.ForeignKey) and pair and pair[0]:
                related: Any = field.related_model
                parent = waiting.get((related._meta.label_lower, str(pair[0]["id"])))
                if parent is not None:
                    place(parent)
        ordered.append(each)

    for each in rows:
        place(each)
    return ordered


def _not_given_back(entry: AuditEntry, row: Any) -> list[str]:
    """Name the fields that users do not enter and that are not as they were."""
    now = snapshot_changes(row, DEFAULT_DB_ALIAS)
    names = [name for name in entry.changes if not _field(type(row), name).editable]
    return [
        f"{entry.object_text}, {_field(type(row), name).verbose_name}: users do not enter it"
        for name in names
        if not _same(now.get(name), entry.changes[name][0])
    ]


def _revived(entry: AuditEntry, model: type[RegistryModel]) -> Any:
    """Return the unsaved row that the entry says was deleted.

    It has neither its secrets nor what no user entered: the registry finds out again whether a domain is proved.
    """
    key = model._meta.pk
    row: Any = model(**{key.attname: key.to_python(entry.object_id)})
    for name, (before, _) in entry.changes.items():
        field = _field(model, name)
        if field.editable and not isinstance(field, EncryptedTextField):
            setattr(row, field.attname, recorded_value(field, before))
    for field in model._meta.concrete_fields:
        # What had nothing in it when it was deleted, whatever a new row begins with.
        kept = field.name in entry.changes or not field.editable or field.primary_key
        if not kept and field.has_default() and field.get_default() not in _NOTHING:
            setattr(row, field.attname, None if field.null else field.to_python(""))
    return row
