"""Indexes of trigrams on PostgreSQL, for searches in the middle of names (``icontains``)."""

from __future__ import annotations

from typing import Any, Final

from django.db import DatabaseError, transaction
from django.db.migrations.operations.base import Operation

from relay.logs import get_logger

log = get_logger(__name__)

EXTENSION: Final = "pg_trgm"


class AddTrigramIndex(Operation):
    """Adds an index on ``UPPER(column)``, which is what Django asks for; does nothing on other databases.

    Where the database's owner may not add the extension and it is missing, searches stay slow and the log says how to
    help.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model_name: str, field: str) -> None:
        self.model_name, self.field = model_name, field

    @property
    def index(self) -> str:
        """The index's name."""
        return f"{self.model_name.lower()}_{self.field}_trigrams"

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Models do not know of it."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if schema_editor.connection.vendor != "postgresql" or not self.allow_migrate_model(
            schema_editor.connection.alias, model
        ):
            return
        if not self._has_extension(schema_editor):
            log.warning(
                "searches in long lists will be slow",
                remedy=f"let a superuser of the database run CREATE EXTENSION {EXTENSION}, then CREATE INDEX as in "
                "docs/adr/0019-lists-of-any-size.md",
                index=self.index,
            )
            return
        quote = schema_editor.quote_name
        column = quote(model._meta.get_field(self.field).column)
        schema_editor.execute(
            f"CREATE INDEX {quote(self.index)} ON {quote(model._meta.db_table)} USING gin "
            f"(UPPER({column}::text) gin_trgm_ops)"
        )

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f"DROP INDEX IF EXISTS {schema_editor.quote_name(self.index)}")

    def _has_extension(self, schema_editor: Any) -> bool:
        if schema_editor.collect_sql:
            return True
        try:
            with transaction.atomic(using=schema_editor.connection.alias):
                schema_editor.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
        except DatabaseError:
            return False
        return True

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.model_name, self.field], {}

    def describe(self) -> str:
        return f"Index {self.model_name}.{self.field} for searches on PostgreSQL"
