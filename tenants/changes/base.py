"""The base of all rows of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models, router
from django.db.models.base import ModelBase

from tenants.changes import checks, generations
from tenants.changes.change_log import ChangeAction, ChangeKind
from tenants.changes.generations import Root
from tenants.changes.querysets import RegistryManager, roots_of_keys
from tenants.changes.role import EDIT_ROLES
from tenants.fields import EncryptedTextField, NormalisedCharField


class RegistryModel(models.Model):
    """A row whose every change is numbered by `tenants.changes.generations`.

    ``save()`` normalises, writes nothing where nothing differs, and records the roots that the change affects.

    Class attributes:
        tenant_lookup: the way to the row's tenant for `RegistryQuerySet.for_user`; None where it has none.
        visible_to_members: a row without a tenant may be looked at by the members of any.
        edit_roles: the roles that may change the tenant's rows of this kind; none for operators alone.
        root_kind, root_lookup: what a change of the row changes, and the way to its key; None where nothing is routed
            by it.
        root_field: the row's own field that this way begins with; None where the row is the root.
        not_in_bulk_update: fields that ``QuerySet.update`` refuses, because a change of them needs a look at each row.
        decides_sight: whether a row decides what its user sees and changes (`tenants.changes.visibility`).
        operator_fields: fields that the tenant's own people are not shown.
        not_on_record: fields whose change the audit trail leaves out: what the registry itself notes all the time.
    """

    tenant_lookup: ClassVar[str | None] = None
    visible_to_members: ClassVar[bool] = False
    edit_roles: ClassVar[frozenset[str]] = EDIT_ROLES
    root_kind: ClassVar[ChangeKind | None] = None
    root_lookup: ClassVar[str] = "pk"
    root_field: ClassVar[str | None] = None
    not_in_bulk_update: ClassVar[frozenset[str]] = frozenset()
    decides_sight: ClassVar[bool] = False
    operator_fields: ClassVar[frozenset[str]] = frozenset()
    not_on_record: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

    created_at = models.DateTimeField("created", auto_now_add=True, editable=False)
    updated_at = models.DateTimeField("changed", auto_now=True, editable=False)

    objects = RegistryManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    # -- writing

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Normalise and write the row, if it differs from what is stored, and record the change with it.

        Raises:
            ValidationError: a value has no normal form, or contradicts another row.
        """
        self.normalise()
        database = using or router.db_for_write(type(self), instance=self)
        names = None if update_fields is None else set(update_fields)
        if names is not None and names:
            names.add("updated_at")
        with generations.batch(database) as batch:
            stored = None
            if self.pk is not None and not force_insert:
                stored = type(self)._base_manager.using(database).filter(pk=self.pk).first()
            if stored is not None and not self.differs_from(stored, names):
                self._state.adding = False
                self._state.db = database
                return
            self.check_rows([self], database)
            before = self.roots_of_instances([stored], database) if stored is not None else set()
            super().save(force_insert=force_insert, force_update=force_update, using=database, update_fields=names)
            if stored is None:
                batch.recorder.created([self])
            else:
                batch.recorder.changed(stored, self, names)
            created = stored is None and self.is_root()
            batch.add(before)
            batch.add(
                self.roots_of_instances([self], database), ChangeAction.CREATED if created else ChangeAction.UPDATED
            )

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete the row and the rows below it, and record what that changes."""
        database = using or router.db_for_write(type(self), instance=self)
        with generations.batch(database) as batch:
            rows = type(self)._base_manager.using(database).filter(pk=self.pk)
            deleted, kept = self.roots_of_deletion(rows)
            batch.recorder.deleted(rows)  # as it is stored, whatever the object holds
            batch.deleting += 1
            try:
                result = super().delete(using=database, keep_parents=keep_parents)
            finally:
                batch.deleting -= 1
            batch.add(deleted, ChangeAction.DELETED)
            batch.add(kept)
        return result

    delete.alters_data = True  # type: ignore[attr-defined]

    def differs_from(self, stored: Self, names: set[str] | None = None) -> bool:
        """Tell whether a field (of those named; all for None) differs from the stored row's."""
        for field in self._meta.concrete_fields:
            if field.attname not in self.__dict__ or field.attname in ("created_at", "updated_at"):
                continue
            if names is not None and not names & {field.name, field.attname}:
                continue
            if isinstance(field, EncryptedTextField):
                if not field.same(self, stored):
                    return True
            elif getattr(self, field.attname) != getattr(stored, field.attname):
                return True
        return False

    # -- what a change affects

    @classmethod
    def is_root(cls) -> bool:
        """Whether a change of the row is a change of itself, not of something above it."""
        return cls.root_kind is not None and cls.root_field is None

    @classmethod
    def roots_of(cls, rows: models.QuerySet[Any]) -> set[Root]:
        """Return what a change of these rows affects."""
        if cls.root_kind is None:
            return set()
        keys = rows.order_by().values_list(cls.root_lookup, flat=True).distinct()
        return {Root(cls.root_kind, key) for key in keys}

    @classmethod
    def roots_of_instances(cls, instances: Iterable[Self], using: str) -> set[Root]:
        """Return what a change of these saved objects affects, without a query where they know it themselves."""
        if cls.root_kind is None:
            return set()
        if "__" in cls.root_lookup:
            return roots_of_keys(cls, [instance.pk for instance in instances], using)
        return {Root(cls.root_kind, getattr(instance, cls.root_lookup)) for instance in instances}

    @classmethod
    def roots_of_deletion(cls, rows: models.QuerySet[Any]) -> tuple[set[Root], set[Root]]:
        """Return the roots that go when these rows are deleted, with the rows below them, and those that change."""
        return (cls.roots_of(rows), set()) if cls.is_root() else (set(), cls.roots_of(rows))

    # -- normal form

    def normalise(self) -> None:
        """Bring every field that has a normal form into it.

        Raises:
            ValidationError: a value has none; by field.
        """
        errors: dict[str, Any] = {}
        for field in self._meta.concrete_fields:
            if isinstance(field, NormalisedCharField) and field.attname in self.__dict__:
                try:
                    setattr(self, field.attname, field.normalise(getattr(self, field.attname)))
                except ValidationError as error:
                    errors[field.name] = error
        if errors:
            raise ValidationError(errors)
        self.derive()

    def derive(self) -> None:
        """Fill the fields that follow from others in their normal form; fixtures, too, are stored with them."""

    @classmethod
    def normal_value(cls, name: str, value: Any) -> Any:
        """Return the normal form of a value for the field of this name."""
        try:
            field = cls._meta.get_field(name)
        except FieldDoesNotExist:
            return value
        return field.normalise(value) if isinstance(field, NormalisedCharField) else value

    # -- who may change it

    @classmethod
    def never_by(cls, user: Any) -> models.Q | None:
        """Return which rows the user may not change although the role would allow it; None for none."""
        return None

    def clean(self) -> None:
        super().clean()
        checks.clean(self)

    @classmethod
    def check_rows(cls, rows: Sequence[Self], using: str) -> None:
        """Refuse what no constraint of a single table can; called under the generation's lock, before writing.

        Raises:
            ValidationError: a row contradicts another table's.
        """
        cls.check_own_rows(rows, using)
        checks.check(cls, rows, using)

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        """Refuse what the model itself knows to be wrong; the rest is registered in `tenants.changes.checks`.

        Raises:
            ValidationError: a row contradicts another table's.
        """
