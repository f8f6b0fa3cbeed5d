"""Receivers for the writes that pass by save() and the manager: fixtures, and cascades from outside the registry."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.models.signals import post_save, pre_delete, pre_save

from tenants.changes import generations
from tenants.changes.audit_entry import AuditEntry
from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeAction
from tenants.changes.signals import generation_committed


def before_fixture_row(sender: type[Any], instance: Any, raw: bool, using: str, **_: Any) -> None:
    """Lock the generation before a row of a fixture is written, and keep what it replaces."""
    if raw and issubclass(sender, RegistryModel):
        instance.derive()
        if connections[using].in_atomic_block:
            generations.lock(using)
        instance._replaced = sender._base_manager.using(using).filter(pk=instance.pk).first()


def after_fixture_row(sender: type[Any], instance: Any, raw: bool, created: bool, using: str, **_: Any) -> None:
    """Record a row of a fixture."""
    if raw and issubclass(sender, RegistryModel):
        with generations.batch(using) as batch:
            replaced = instance.__dict__.pop("_replaced", None)
            if replaced is None:
                batch.recorder.created([instance])
            else:
                batch.recorder.changed(replaced, instance)
            action = ChangeAction.CREATED if created and sender.is_root() else ChangeAction.UPDATED
            batch.add(sender.roots_of_instances([instance], using), action)


def after_fixture_entry(sender: type[Any], instance: Any, raw: bool, using: str, **_: Any) -> None:
    """Let entries of a dumped audit trail keep their keys: what loading itself adds gets keys behind them.

    Django sets a sequence only when all is loaded, and SQLite needs none.
    """
    if raw and connections[using].vendor == "postgresql":
        sequence = (sender._meta.db_table, sender._meta.pk.column)
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT setval(name, GREATEST(%s, nextval(name))) FROM pg_get_serial_sequence(%s, %s) AS name",
                [instance.pk, *sequence],
            )


def before_deletion(sender: type[Any], instance: Any, using: str, **_: Any) -> None:
    """Record a row that is deleted, perhaps by a cascade; inside our own delete() the roots are known already.

    That there is a receiver also keeps Django from deleting such rows unseen ("fast deletes").
    """
    if not issubclass(sender, RegistryModel):
        return
    open_batch = generations.open_batch(using)
    if open_batch is not None and open_batch.deleting:
        open_batch.recorder.deleted([instance])
        return
    with generations.batch(using) as batch:
        batch.recorder.deleted([instance])
        deleted, kept = instance.roots_of_deletion(sender._base_manager.using(using).filter(pk=instance.pk))
        batch.add(deleted, ChangeAction.DELETED)
        batch.add(kept)


def announce_generation(generation: int, **_: Any) -> None:
    """Tell the relays of a new generation."""
    from tenants import tasks  # Celery takes long to import, and most commands write nothing

    tasks.announce(generation)


def connect() -> None:
    """Connect the receivers; called once when the application is ready."""
    generation_committed.connect(announce_generation, dispatch_uid="tenants.announce_generation")
    pre_save.connect(before_fixture_row, dispatch_uid="tenants.before_fixture_row")
    post_save.connect(after_fixture_row, dispatch_uid="tenants.after_fixture_row")
    post_save.connect(after_fixture_entry, sender=AuditEntry, dispatch_uid="tenants.after_fixture_entry")
    for model in RegistryModel.__subclasses__():
        pre_delete.connect(before_deletion, sender=model, dispatch_uid="tenants.before_deletion")
