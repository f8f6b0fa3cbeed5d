"""The trail of one transaction: what its rows were before, and what they are after, made into audit entries.

Rows are noted as plain tuples when they are written. When the batch ends, all of them become entries together, in a
number of queries that does not grow with the rows but by the `CHUNK`.
"""

from __future__ import annotations

import base64
import copy
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, models, transaction
from django.db.models import DEFERRED
from django.db.models.base import ModelState
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from relay.errors import shorten
from tenants.changes.actor import actor, actor_name
from tenants.changes.bulk_insert import write_values
from tenants.changes.fingerprints import fingerprint
from tenants.fields import EncryptedTextField, Sealed, UndecryptableValue

CHUNK: Final = 500  # keys in one IN (…)
MANY: Final = 50  # entries that are written in one statement whatever their number
TEXT_LENGTH: Final = 300
SEALED: Final = "sealed"
ANOTHER_TENANT: Final = "another tenant's"

Snapshot = tuple[Any, ...]
"""What a row holds, in the order of its model's concrete fields."""


class Rules(NamedTuple):
    """What is kept of a model's fields.

    Attributes:
        ignored: fields whose change is none.
        hidden: fields of which only is kept that they changed.
    """

    ignored: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


_rules: dict[type[models.Model], Rules] = {}


def set_rules(model: type[models.Model], rules: Rules) -> None:
    """Say what is kept of a model that is none of the registry's own."""
    _rules[model] = rules


def rules_of(model: type[models.Model]) -> Rules:
    """Return what is kept of the model's fields."""
    return _rules.get(model) or Rules(ignored=getattr(model, "not_on_record", frozenset()))


def on_record() -> list[type[models.Model]]:
    """Return the models whose changes are on record."""
    return [model for model in apps.get_models() if model in _rules or hasattr(model, "not_on_record")]


class Trail:
    """What has changed so far; a row that changes twice is one change, and one that changes back is none."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._rows: dict[tuple[type[models.Model], Any], list[Snapshot | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def created(self, rows: Iterable[models.Model]) -> None:
        """Note rows that were just inserted."""
        for row in self._readable(rows):
            self._note(row, None, snapshot(row))

    def changed(self, before: models.Model, after: models.Model, names: set[str] | None = None) -> None:
        """Note a row that was just updated.

        Args:
            names: of the fields that were written; None for all.
        """
        old, new = snapshot(before), list(snapshot(after))
        for place, field in enumerate(before._meta.concrete_fields):
            if new[place] is DEFERRED or (names is not None and not names & {field.name, field.attname}):
                new[place] = old[place]
        if any(hasattr(value, "resolve_expression") for value in new):
            stored = type(before)._base_manager.using(self._using).get(pk=before.pk)
            new = list(snapshot(stored))
        self._note(before, old, tuple(new))

    def updated(self, rows: Iterable[models.Model], values: Mapping[str, Any]) -> None:
        """Note rows whose fields of these names were just set to these values, none of them an expression."""
        for row in rows:
            new = list(before := snapshot(row))
            for place, field in enumerate(row._meta.concrete_fields):
                for name in {field.name, field.attname} & values.keys():
                    value = values[name]
                    new[place] = value.pk if isinstance(value, models.Model) else copy.deepcopy(value)
            self._note(row, before, tuple(new))

    def deleted(self, rows: Iterable[models.Model]) -> None:
        """Note rows that are about to be deleted."""
        for row in self._readable(rows):
            self._note(row, snapshot(row), None)

    def _note(self, row: models.Model, before: Snapshot | None, after: Snapshot | None) -> None:
        key = (_concrete(type(row)), row.pk)
        known = self._rows.get(key)
        if known is None:
            self._rows[key] = [before, after]
        else:
            known[1] = after

    def _readable(self, rows: Iterable[models.Model]) -> Iterator[models.Model]:
        """Yield the rows, read anew where something of them was left out or is an expression."""
        for row in rows:
            values = [row.__dict__.get(name, DEFERRED) for name in _names(type(row))]
            if any(value is DEFERRED or hasattr(value, "resolve_expression") for value in values):
                row = type(row)._base_manager.using(self._using).get(pk=row.pk)
            yield row

    # -- what is written

    def write(self) -> None:
        """Add an entry for every row that differs; in the transaction of the change."""
        if self._rows:
            write(self._entries(), self._using)

    def _entries(self) -> list[Entry]:
        changed = {key: pair for key, pair in self._rows.items() if pair[0] is not pair[1]}
        context = _Context(self._using, self._rows, changed)
        found = []
        for (model, key), (before, after) in changed.items():
            changes = context.changes(model, before, after)
            if changes or before is None or after is None:
                found += context.entries(model, key, before, after, changes)
        return found


def _concrete(model: Any) -> type[models.Model]:
    """Return the model whose table holds the rows."""
    found: type[models.Model] = model._meta.concrete_model
    return found


@lru_cache(maxsize=256)
def _names(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields)


@lru_cache(maxsize=256)
def _references(model: type[models.Model]) -> tuple[tuple[int, Any, type[models.Model]], ...]:
    """Return place, field and target of the model's foreign keys."""
    return tuple(
        (place, field, _concrete(field.related_model))
        for place, field in enumerate(model._meta.concrete_fields)
        if isinstance(field, models.ForeignKey)
    )


@sensitive_variables()
def snapshot(row: models.Model) -> Snapshot:
    """Return what the row holds now; secrets as they are, in clear or sealed."""
    state = row.__dict__
    return tuple(
        [
            copy.deepcopy(value) if isinstance(value, list | dict) else value
            for value in [state.get(name, DEFERRED) for name in _names(type(row))]
        ]
    )


class _Context:
    """Rows and what they refer to, so that each can be named without a query of its own."""

    def __init__(
        self,
        using: str,
        rows: Mapping[tuple[type[models.Model], Any], Sequence[Snapshot | None]],
        changed: Mapping[tuple[type[models.Model], Any], Sequence[Snapshot | None]],
    ) -> None:
        self._using = using
        self._noted = rows
        self._known: dict[tuple[type[models.Model], Any], models.Model | None] = {}
        self._texts: dict[tuple[type[models.Model], Any], str] = {}
        self._plans: dict[type[models.Model], list[tuple[int, str, Callable[[Any], Any], Any]]] = {}
        self._read(changed)

    def _read(self, changed: Mapping[tuple[type[models.Model], Any], Sequence[Snapshot | None]]) -> None:
        """Read the rows that are referred to and were not written themselves."""
        wanted: dict[type[models.Model], set[Any]] = {}
        seen = set()
        left = list(changed)
        while left:
            key = left.pop()
            if key in seen:
                continue
            seen.add(key)
            for place, _, target in _references(key[0]):
                for values in self._noted[key]:
                    if values is None or values[place] is None:
                        continue
                    if (target, values[place]) in self._noted:
                        left.append((target, values[place]))
                    else:
                        wanted.setdefault(target, set()).add(values[place])
        for target, keys in wanted.items():
            rows = target._base_manager.using(self._using).select_related()
            rest = iter(sorted(keys, key=str))
            while part := list(islice(rest, CHUNK)):
                for row in rows.filter(pk__in=part):
                    self._known[target, row.pk] = row

    def row(self, model: type[models.Model], key: Any) -> models.Model | None:
        """Return a row as it is now, or was last; None where it is not known."""
        found = self._known.get((model, key))
        if found is None and (model, key) in self._noted:
            before, after = self._noted[model, key]
            values = after if after is not None else before
            if values is not None:
                found = self._known[model, key] = self.revived(model, values)
        return found

    def revived(self, model: type[models.Model], values: Snapshot) -> models.Model:
        """Return an object that holds these values, and what it refers to."""
        row = model.__new__(model)  # without __init__, which takes longer than all the rest
        row._state = ModelState()
        row._state.adding, row._state.db = False, self._using
        row.__dict__.update(zip(_names(model), values, strict=True))
        for place, field, target in _references(model):
            if values[place] is not None and (found := self.row(target, values[place])) is not None:
                field.set_cached_value(row, found)
        return row

    def text(self, model: type[models.Model], key: Any) -> str:
        """Name a row."""
        known = self._texts.get((model, key))
        if known is None:
            row = self.row(model, key)
            known = self._texts[model, key] = f"#{key}" if row is None else text_of(row)
        return known

    # -- what differs

    def changes(
        self, model: type[models.Model], before: Snapshot | None, after: Snapshot | None
    ) -> dict[str, list[Any]]:
        """Return for each field that differs what it was and what it is; of a new or old row all that is not empty."""
        found: dict[str, list[Any]] = {}
        for place, name, shown, field in self._plan(model):
            old = None if before is None else before[place]
            new = None if after is None else after[place]
            if old is new or old == new:
                continue
            if before is None or after is None:
                if old in _EMPTY and new in _EMPTY:
                    continue
            elif _same(field, old, new):
                continue
            found[name] = [None if old is None else shown(old), None if new is None else shown(new)]
        return found

    def _plan(self, model: type[models.Model]) -> list[tuple[int, str, Callable[[Any], Any], Any]]:
        plan = self._plans.get(model)
        if plan is None:
            rules = rules_of(model)
            plan = self._plans[model] = [
                (place, field.name, self._shown(field, field.name in rules.hidden), field)
                for place, field in enumerate(model._meta.concrete_fields)
                if field.name not in rules.ignored and not field.primary_key
            ]
        return plan

    def _shown(self, field: Any, hidden: bool) -> Callable[[Any], Any]:
        if hidden:
            return _hidden
        if isinstance(field, EncryptedTextField):
            return lambda value: {"secret": secret_text(field, value)}
        if isinstance(field, models.ForeignKey):
            target = _concrete(field.related_model)
            return lambda value: {"id": value, "text": self.text(target, value)}
        if isinstance(field, models.BinaryField):
            return lambda value: {"base64": base64.b64encode(bytes(value)).decode()}
        plain = _PLAIN_TEXT if isinstance(field, models.CharField | models.TextField) else _PLAIN
        return lambda value: value if type(value) in plain else _normal(field, value)

    # -- whose it is

    def entries(
        self,
        model: type[models.Model],
        key: Any,
        before: Snapshot | None,
        after: Snapshot | None,
        changes: dict[str, list[Any]],
    ) -> list[Entry]:
        """Return the entry of a change; two where the row went from one tenant to another, each without the other."""
        last = after if after is not None else before
        assert last is not None
        row = self.row(model, key)
        assert row is not None
        owner = tenant_of(row)
        tenant_key, tenant_slug = owner or _NO_TENANT
        found = Entry(
            "created" if before is None else "deleted" if after is None else "updated",
            tenant_key,
            tenant_slug,
            model._meta.label_lower,
            str(key),
            self.text(model, key),
            root_of(row),
            changes,
        )
        reference = str(getattr(model, "tenant_lookup", None) or "").partition("__")[0]
        if before is None or after is None or reference not in changes:
            return [found]
        old_row = self.revived(model, before)
        former = tenant_of(old_row)
        if former == owner:
            return [found]
        old, new = changes[reference]
        noun = str(_concrete(model._meta.get_field(reference).related_model)._meta.verbose_name)
        foreign = "another tenant" if noun == "tenant" else f"{ANOTHER_TENANT} {noun}"

        def masked(value: Any) -> Any:
            return value and {**value, "text": foreign}

        left = {**changes, reference: [old, masked(new)]}
        arrived = {**changes, reference: [masked(old), new]}
        former_key, former_slug = former or _NO_TENANT
        return [
            found._replace(tenant_key=former_key, tenant_slug=former_slug, object_text=text_of(old_row), changes=left),
            found._replace(changes=arrived),
        ]


_NO_TENANT: Final[tuple[int | None, str]] = (None, "")
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_PLAIN: Final = frozenset({int, bool, float})
_PLAIN_TEXT: Final = frozenset({str})


def _same(field: Any, old: Any, new: Any) -> bool:
    """Tell whether two values that look different are one: a secret that is locked anew, a number given as text."""
    if isinstance(field, EncryptedTextField):
        if old is None or new is None:
            return False
        shown = secret_text(field, old)
        return shown != SEALED and shown == secret_text(field, new)
    try:
        return bool(field.to_python(old) == field.to_python(new))
    except ValidationError:
        return False


def _normal(field: Any, value: Any) -> Any:
    if isinstance(value, list | dict):
        return value
    try:
        value = field.to_python(value)
        # To the microsecond, which the encoder would cut.
        return value.isoformat() if isinstance(value, date | time) else value
    except ValidationError:
        return str(value)


def _hidden(value: Any) -> Any:
    return {"secret": "not kept"}


@sensitive_variables()
def secret_text(field: EncryptedTextField, value: Any) -> str:
    """Return the fingerprint of a secret; `SEALED` where no key opens it."""
    try:
        text = value.reveal() if isinstance(value, Sealed) else field.to_plaintext(value)
    except UndecryptableValue:
        return SEALED
    return fingerprint(text)


def text_of(row: models.Model) -> str:
    """Name a row for people, whatever is left of what it refers to."""
    try:
        return clean_text(str(row), TEXT_LENGTH)
    except (ObjectDoesNotExist, FieldDoesNotExist):
        return f"{row._meta.verbose_name} {row.pk}"


def clean_text(text: str, length: int) -> str:
    """Return text that every database takes, cut to a length."""
    return shorten(text.replace("\0", "␀").encode("utf-8", "replace").decode(), length)


def clean_value(value: Any) -> Any:
    """Return a value for `Entry.changes` with text that every database takes: it may come from anybody."""
    if isinstance(value, str):
        return clean_text(value, len(value))
    if isinstance(value, dict):
        return {clean_value(key): clean_value(each) for key, each in value.items()}
    return [clean_value(each) for each in value] if isinstance(value, list | tuple) else value


def tenant_of(row: models.Model) -> tuple[int, str] | None:
    """Return key and slug of a row's tenant; None where it has none."""
    lookup = getattr(row, "tenant_lookup", None)
    if not lookup:
        return None
    owner: Any = row
    try:
        for name in () if lookup == "pk" else lookup.split("__"):
            owner = getattr(owner, name)
    except ObjectDoesNotExist:
        return None
    return None if owner is None else (owner.pk, owner.slug)


def root_of(row: models.Model) -> str:
    """Return the name of the row below a tenant that this one hangs on; empty where it hangs on none."""
    path = str(getattr(row, "tenant_lookup", None) or "").split("__")[:-1]
    owner: Any = row
    try:
        for name in path:
            owner = getattr(owner, name)
    except ObjectDoesNotExist:
        return ""
    return "" if owner is row or owner is None else f"{owner._meta.label_lower} {owner.pk}"


def snapshot_changes(row: models.Model, using: str) -> dict[str, Any]:
    """Return what the trail would say of each field of a row that is as it is now; empty ones are left out."""
    model, values = _concrete(type(row)), snapshot(row)
    rows = {(model, row.pk): [None, values]}
    return {name: pair[1] for name, pair in _Context(using, rows, rows).changes(model, None, values).items()}


# -- entries


class Entry(NamedTuple):
    """What is put on record, but for who did it and when; the fields are those of `AuditEntry`."""

    action: str
    tenant_key: int | None = None
    tenant_slug: str = ""
    model: str = ""
    object_id: str = ""
    object_text: str = ""
    root: str = ""
    changes: dict[str, Any] = {}


def write(entries: Sequence[Entry], using: str) -> None:
    """Add the entries, by who acts, in the transaction that is open."""
    from tenants.models.audit_entry import AuditEntry

    if not entries:
        return
    by = actor()
    user_key = by.user.pk if by.user is not None and by.user.is_authenticated else None
    shared = {
        "instant": timezone.now(),
        "batch": _batch_of_transaction(using),
        "actor_id": user_key,
        "actor_name": clean_text(actor_name(), 200),
        "origin": by.origin,
        "address": by.address,
    }
    if len(entries) < MANY:
        clean = [each._replace(changes=clean_value(each.changes)) for each in entries]
        rows = [AuditEntry(**shared, **each._asdict()) for each in clean]
        AuditEntry.objects.using(using).bulk_create(rows)
    else:
        _write_many(AuditEntry, shared, entries, using)


def _write_many(model: type[models.Model], shared: dict[str, Any], entries: Sequence[Entry], using: str) -> None:
    """Add entries in the database's own way to take many: a third of the time that bulk_create() takes."""
    connection = connections[using]
    fields = {field.attname: field for field in model._meta.concrete_fields if not field.primary_key}
    ready = [fields[name].get_db_prep_save(value, connection) for name, value in shared.items()]
    columns = [str(fields[name].column) for name in (*shared, *Entry._fields)]
    dump = DjangoJSONEncoder().encode

    def dumped(changes: dict[str, Any]) -> str:
        text = dump(changes)
        return dump(clean_value(changes)) if "\\u0000" in text or "\\ud" in text else text

    write_values(model, columns, ((*ready, *each[:-1], dumped(each.changes)) for each in entries), using)


class _Mark:
    """Remembers the batch's number in the transaction; forgotten with its end."""

    def __init__(self) -> None:
        self.batch = uuid.uuid4()

    def __call__(self) -> None:
        """Do nothing after the commit."""


def _batch_of_transaction(using: str) -> uuid.UUID:
    connection = connections[using]
    if not connection.in_atomic_block:
        return uuid.uuid4()
    for _, waiting, *_ in connection.run_on_commit:
        if isinstance(waiting, _Mark):
            return waiting.batch
    mark = _Mark()
    transaction.on_commit(mark, using=using)
    return mark.batch
