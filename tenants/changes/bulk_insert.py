"""Bulk insertion in the database's own way: COPY on PostgreSQL, one prepared statement on SQLite.

Django's ``bulk_create()`` looks at every value of every row several times: most of the time of a large import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from django.db import connections, models, transaction
from django.utils import timezone

from tenants.fields import NormalisedCharField

MANY: Final = 100
"""Rows from which on this is the better way."""

_DATABASES: Final = frozenset({"postgresql", "sqlite"})
_NUMBERS: Final = frozenset({int, bool, type(None)})
_TEXTS: Final = frozenset({str, type(None)})


def write_values(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]], using: str) -> None:
    """Insert rows of values that are ready for the database, in the order of the columns."""
    connection = connections[using]
    quote = connection.ops.quote_name
    table, names = quote(model._meta.db_table), ", ".join(map(quote, columns))
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            marks = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(rows))  # noqa: S608
            return
        with connection.wrap_database_errors, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy_in:
            for row in rows:
                copy_in.write_row(row)


def fits(rows: Sequence[models.Model], using: str) -> bool:
    """Tell whether `insert` can take these rows: many new ones, whose values are all known here."""
    if len(rows) < MANY or connections[using].vendor not in _DATABASES:
        return False
    model = type(rows[0])
    fields = model._meta.concrete_fields
    return (
        not model._meta.parents
        and isinstance(model._meta.pk, models.AutoField)
        and not any(field.generated or field.has_db_default() for field in fields)
        and all(type(row) is model and row.pk is None and not row.get_deferred_fields() for row in rows)
        and not any(hasattr(value, "resolve_expression") for row in rows for value in row.__dict__.values())
    )


def insert(rows: Sequence[Any], using: str) -> None:
    """Insert new rows that are in their normal form, and give them their keys; ``fits`` says which.

    On SQLite the caller's transaction has to have written already, so that no other writer takes the same keys.
    """
    model, connection = type(rows[0]), connections[using]
    fields = model._meta.concrete_fields
    ready = [_reader(field, connection) for field in fields]
    with transaction.atomic(using=using, savepoint=False):
        keys = _keys(model, len(rows), using)
        for row, key in zip(rows, keys, strict=True):
            row.pk = key
        try:
            write_values(
                model, [str(field.column) for field in fields], ([read(row) for read in ready] for row in rows), using
            )
        except BaseException:
            for row in rows:
                row.pk = None
            raise
    for row in rows:
        row._state.adding, row._state.db = False, using


def _reader(field: Any, connection: Any) -> Callable[[Any], Any]:
    """Return what gives a row's value of the field, ready for the database."""
    name = field.attname
    prepare = field.get_db_prep_save
    if isinstance(field, models.DateTimeField) and (field.auto_now or field.auto_now_add):
        now = timezone.now()
        written = prepare(now, connection)

        def stamp(row: Any) -> Any:
            row.__dict__[name] = now
            return written

        return stamp
    own = type(field).pre_save
    if own is not models.Field.pre_save and own not in _PLAIN:
        return lambda row: prepare(field.pre_save(row, True), connection)
    if isinstance(field, models.CharField | models.TextField):
        plain = _TEXTS
    elif isinstance(field, models.IntegerField | models.BooleanField | models.ForeignKey):
        plain = _NUMBERS
    else:
        plain = frozenset()

    def read(row: Any) -> Any:
        value = row.__dict__[name]
        return value if type(value) in plain else prepare(value, connection)

    return read


_PLAIN: Final = frozenset({models.DateTimeField.pre_save, NormalisedCharField.pre_save})
"""What nothing is left to do for, where the row is in its normal form."""


def _keys(model: type[models.Model], count: int, using: str) -> list[int]:
    """Return keys that no row has, and that none will get."""
    connection = connections[using]
    table, column = model._meta.db_table, str(model._meta.pk.column)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)",
                [connection.ops.quote_name(table), column, count],
            )
            return [key for (key,) in cursor.fetchall()]
        # The table's counter moves with the keys that are inserted.
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        last = (cursor.fetchone() or (0,))[0]
        cursor.execute(f"SELECT max({connection.ops.quote_name(column)}) FROM {connection.ops.quote_name(table)}")  # noqa: S608
        first = max(last, cursor.fetchone()[0] or 0) + 1
        return list(range(first, first + count))
