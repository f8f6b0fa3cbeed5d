"""What differs between two snapshots of a row, in the words of an audit entry."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from itertools import islice
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.base import ModelState
from django.views.decorators.debug import sensitive_variables

from tenants.changes.entries import Entry
from tenants.changes.fingerprints import fingerprint
from tenants.changes.record_rules import rules_of
from tenants.changes.row_names import root_of, tenant_of, text_of
from tenants.changes.snapshots import Snapshot, concrete, names_of, references_of, snapshot
from tenants.fields import EncryptedTextField, Sealed, UndecryptableValue

CHUNK: Final = 500  # keys in one IN (…)
SEALED: Final = "sealed"
ANOTHER_TENANT: Final = "another tenant's"

_NO_TENANT: Final[tuple[int | None, str]] = (None, "")
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_PLAIN: Final = frozenset({int, bool, float})
_PLAIN_TEXT: Final = frozenset({str})


class Differences:
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
            for place, _, target in references_of(key[0]):
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
        row.__dict__.update(zip(names_of(model), values, strict=True))
        for place, field, target in references_of(model):
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
            target = concrete(field.related_model)
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
        noun = str(concrete(model._meta.get_field(reference).related_model)._meta.verbose_name)
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


def _same(field: Any, old: Any, new: Any) -> bool:
    """Tell whether two different values mean the same: a secret that was encrypted again, a number given as text."""
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


def snapshot_changes(row: models.Model, using: str) -> dict[str, Any]:
    """Return what an audit entry would say of each field of a row as it is now; empty ones are left out."""
    model, values = concrete(type(row)), snapshot(row)
    rows = {(model, row.pk): [None, values]}
    return {name: pair[1] for name, pair in Differences(using, rows, rows).changes(model, None, values).items()}
