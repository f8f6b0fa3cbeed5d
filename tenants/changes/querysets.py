"""The query layer of the registry: who sees which rows, and bulk operations that count as changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import FieldError
from django.db import connections, models
from django.utils import timezone

from tenants.changes import bulk_insert, checks, generations
from tenants.changes.change_log import ChangeAction
from tenants.changes.generations import Root
from tenants.changes.recorder import ChangeRecorder
from tenants.changes.visibility import seen_by, sight_of
from tenants.fields import NormalisedCharField

if TYPE_CHECKING:
    from tenants.changes.base import RegistryModel

_M = TypeVar("_M", bound="RegistryModel")
CHUNK = 500  # keys in one IN (…): well below the variables that SQLite takes


def chunks(values: Iterable[Any], size: int = CHUNK) -> Iterator[list[Any]]:
    """Yield the values in lists of this size; the usual one fits into one query."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


class RegistryQuerySet(models.QuerySet[_M]):
    """Every way to write many rows takes the generation's lock first and records the roots that it changed."""

    def for_user(self, user: Any) -> RegistryQuerySet[_M]:
        """Return the rows that the user may see: the one gate for lists, forms, choices, actions and the API.

        Operators (active superusers) and auditors see all; others the rows of the tenants that they are members of,
        and the nodes, which all tenants share. No other user sees anything.
        """
        return seen_by(self, user, shared=self.model.visible_to_members)

    def editable_by(self, user: Any) -> RegistryQuerySet[_M]:
        """Return the rows that the user may change: all for operators, none for auditors, else by role.

        The roles: `RegistryModel.edit_roles`; what of those rows stays out: `RegistryModel.never_by`.
        """
        rows = self.in_edited_tenants(user)
        sight = sight_of(user, self.db)
        kept = self.model.never_by(user) if sight.roles else None
        return rows if kept is None else rows.exclude(kept)

    def in_edited_tenants(self, user: Any) -> RegistryQuerySet[_M]:
        """Return the rows of the tenants in which the user may change rows of this kind."""
        sight = sight_of(user, self.db)
        if sight.operator:
            return self.all()
        lookup, roles = self.model.tenant_lookup, self.model.edit_roles
        if lookup is None or not roles or not sight.roles:
            return self.none()
        return self.filter(**{f"{lookup}__in": sight.tenants(roles)})

    # -- writing

    def update(self, **kwargs: Any) -> int:
        """Update the rows, normalised, with a new ``updated_at``; fields that need a look at each row are refused."""
        model = self.model
        refused = model.not_in_bulk_update.intersection(name.removesuffix("_id") for name in kwargs)
        if refused:
            raise FieldError(
                f"{model._meta.label}.{', '.join(sorted(refused))} cannot be changed by update(): "
                "set it on each object and save() that."
            )
        values = {name: model.normal_value(name, value) for name, value in kwargs.items()}
        values.setdefault("updated_at", timezone.now())
        self._for_write = True
        database = self.db
        rows = self.using(database)
        with generations.batch(database) as batch:
            before = model.roots_of(rows)
            moves = model.root_field is not None and bool({model.root_field, f"{model.root_field}_id"} & set(kwargs))
            stored = list(model._base_manager.using(database).filter(pk__in=rows.order_by().values("pk")))
            keys = [row.pk for row in stored] if moves else []
            if not batch.checked:
                _check_update(stored, values, database)
            count = super(RegistryQuerySet, rows).update(**values)
            _note_update(batch.recorder, stored, values)
            if count:
                batch.add(before)
                batch.add(roots_of_keys(model, keys, database))
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[_M], *args: Any, **kwargs: Any) -> list[_M]:
        """Insert the rows, normalised like save() does."""
        if kwargs.get("update_conflicts"):
            raise FieldError(f"{self.model._meta.label}: bulk_create() cannot update rows: use update_or_create().")
        rows = list(objs)
        for row in rows:
            row.normalise()
            # A parent may have been saved after it was given here: what is checked goes by its key.
            row._prepare_related_fields_for_save(operation_name="bulk_create")  # type: ignore[attr-defined]
        self._for_write = True
        database = self.db
        with generations.batch(database) as batch:
            self.model.check_rows(rows, database)
            newest = self.model._base_manager.using(database).aggregate(newest=models.Max("pk"))["newest"] or 0
            if not args and not kwargs and bulk_insert.fits(rows, database):
                bulk_insert.insert(rows, database)
                created = rows
            else:
                created = super().bulk_create(rows, *args, **kwargs)
            if any(row.pk is None for row in created):
                # ignore_conflicts: the database does not say which rows it took; all new ones are this transaction's.
                new = self.model._base_manager.using(database).filter(pk__gt=newest)
                roots = self.model.roots_of(new)
                batch.recorder.created(new)
            else:
                batch.recorder.created(created)
                roots = self.model.roots_of_instances(created, database)
            batch.add(roots, ChangeAction.CREATED if self.model.is_root() else ChangeAction.UPDATED)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Iterable[_M], fields: Iterable[str], batch_size: int | None = None) -> int:
        """Update the named fields of the rows, normalised like save() does."""
        rows, names = list(objs), list(fields)
        for row in rows:
            for name in names:
                if isinstance(self.model._meta.get_field(name), NormalisedCharField):
                    setattr(row, name, self.model.normal_value(name, getattr(row, name)))
        self._for_write = True
        with generations.batch(self.db) as batch:
            if checks.checked_fields(self.model).intersection(names):
                self.model.check_rows(rows, self.db)
            batch.checked += 1
            try:
                return super().bulk_update(rows, names, batch_size)
            finally:
                batch.checked -= 1

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows and those below them."""
        self._for_write = True
        database = self.db
        rows = self.using(database)
        with generations.batch(database) as batch:
            deleted, kept = self.model.roots_of_deletion(rows)
            batch.deleting += 1
            try:
                result = super(RegistryQuerySet, rows).delete()
            finally:
                batch.deleting -= 1
            batch.add(deleted, ChangeAction.DELETED)
            batch.add(kept)
        return result

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def update_or_create(self, *args: Any, **kwargs: Any) -> tuple[_M, bool]:
        """Django's, with the generation's lock taken before the row's, so that no two writers wait for each other."""
        self._for_write = True
        with generations.batch(self.db):
            return super().update_or_create(*args, **kwargs)

    update_or_create.alters_data = True  # type: ignore[attr-defined]

    def select_for_update(self, *args: Any, **kwargs: Any) -> RegistryQuerySet[_M]:
        """Django's, after the generation's lock: row locks of the registry are taken behind it only."""
        self._for_write = True
        database = self.db
        if connections[database].in_atomic_block:
            generations.lock(database)
        return super().select_for_update(*args, **kwargs)


def _check_update(stored: Sequence[RegistryModel], values: dict[str, Any], using: str) -> None:
    """Check what `QuerySet.update` is about to make of these rows, as if each were saved."""
    checked = checks.checked_fields(type(stored[0])).intersection(values) if stored else frozenset()
    if not checked:
        return
    rows = [copy.copy(row) for row in stored]
    for row in rows:
        for name in checked:
            if hasattr(values[name], "resolve_expression"):
                raise FieldError(
                    f"{row._meta.label}.{name} is checked row by row: update() takes no expression for it."
                )
            setattr(row, name, values[name])
    type(rows[0]).check_rows(rows, using)


def _note_update(recorder: ChangeRecorder, stored: Sequence[RegistryModel], values: dict[str, Any]) -> None:
    """Note what `QuerySet.update` did to these rows; what expressions made of them is read from the database."""
    if not any(hasattr(value, "resolve_expression") for value in values.values()):
        recorder.updated(stored, values)
        return
    before = {row.pk: row for row in stored}
    for part in chunks(before):
        for row in type(stored[0])._base_manager.using(stored[0]._state.db).filter(pk__in=part):
            recorder.changed(before[row.pk], row)


def roots_of_keys(model: type[RegistryModel], keys: Sequence[Any], using: str) -> set[Root]:
    """Return the roots that a change of the rows with these primary keys affects."""
    roots: set[Root] = set()
    for part in chunks(keys):
        roots |= model.roots_of(model._base_manager.using(using).filter(pk__in=part))
    return roots


class RegistryManager(models.Manager.from_queryset(RegistryQuerySet)):  # type: ignore[misc]
    """The registry's manager, also for related objects and for many-to-many links."""
