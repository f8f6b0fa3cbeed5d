"""Record changes of models from outside the registry in the audit trail."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from tenants.changes import generations
from tenants.changes.record_rules import RecordRules, set_rules
from tenants.changes.recorder import ChangeRecorder
from tenants.services.audit import journal

_tracked: set[type[models.Model]] = set()


def track(model: type[models.Model], rules: RecordRules) -> None:
    """Put every change of a model on record.

    Args:
        rules: which fields do not count, and of which only is kept that they changed.
    """
    set_rules(model, rules)
    _tracked.add(model)
    name = f"accounts.track.{model._meta.label_lower}"
    pre_save.connect(_before_save, sender=model, dispatch_uid=name)
    post_save.connect(_after_save, sender=model, dispatch_uid=name)
    pre_delete.connect(_before_delete, sender=model, dispatch_uid=name)
    for field in model._meta.local_many_to_many:
        m2m_changed.connect(_links_changed, sender=field.remote_field.through, dispatch_uid=f"{name}.{field.name}")


def _before_save(sender: Any, instance: Any, using: str, **_: Any) -> None:
    instance._replaced = sender._base_manager.using(using).filter(pk=instance.pk).first() if instance.pk else None


def _after_save(sender: Any, instance: Any, using: str, update_fields: Any = None, **_: Any) -> None:
    replaced = instance.__dict__.pop("_replaced", None)
    recorder = _recorder(using)
    if replaced is None:
        recorder.created([instance])
    else:
        recorder.changed(replaced, instance, None if update_fields is None else set(update_fields))
    _write(recorder, using)


def _before_delete(sender: Any, instance: Any, using: str, **_: Any) -> None:
    recorder = _recorder(using)
    recorder.deleted([instance])
    _write(recorder, using)


def _recorder(using: str) -> ChangeRecorder:
    batch = generations.open_batch(using)
    return ChangeRecorder(using) if batch is None else batch.recorder


def _write(recorder: ChangeRecorder, using: str) -> None:
    if generations.open_batch(using) is None:
        recorder.write()


def _links_changed(sender: Any, instance: Any, action: str, reverse: bool, using: str, **_: Any) -> None:
    """Put on record which groups and permissions a user or group had and has."""
    moment = action.partition("_")[0]
    field = next(
        each for model in _tracked for each in model._meta.local_many_to_many if each.remote_field.through is sender
    )
    links = getattr(instance, str(field.remote_field.get_accessor_name()) if reverse else field.name)
    now = sorted(str(row) for row in links.using(using))
    if moment == "pre":
        instance._linked = now
        return
    before = instance.__dict__.pop("_linked", None)
    if before is not None and before != now:
        name = str(field.model._meta.verbose_name_plural) if reverse else field.name
        journal.record("updated", instance, changes={name: [before, now]}, using=using)
