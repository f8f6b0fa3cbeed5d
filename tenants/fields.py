"""Model fields that normalise what they hold, and fields whose column holds ciphertext only."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models.lookups import StartsWith
from django.db.models.query_utils import DeferredAttribute
from django.views.decorators.debug import sensitive_variables

from relay.errors import InvalidValue, shorten

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_REMEDY = (
    "set FIELD_ENCRYPTION_KEYS to a list of Fernet keys, the newest first "
    '(python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())" makes one)'
)
SEALED_PREFIX = "$sealed$"


class UndecryptableValue(Exception):
    """A stored secret that no key in FIELD_ENCRYPTION_KEYS opens.

    The message names model, field and row, never the value or its ciphertext.
    """


@lru_cache(maxsize=8)
def _box_of(keys: tuple[str, ...]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet  # most commands open no secret

    boxes = []
    for position, key in enumerate(keys, start=1):
        try:
            boxes.append(Fernet(key))
        except (ValueError, TypeError):
            raise ImproperlyConfigured(
                f"FIELD_ENCRYPTION_KEYS: key {position} is not 32 bytes in URL-safe base64; {KEY_REMEDY}."
            ) from None
    return MultiFernet(boxes)


def encryption_box() -> MultiFernet:
    """Return what encrypts with the newest key and decrypts with all of them.

    Raises:
        ImproperlyConfigured: there is no key, or an entry is not a key.
    """
    keys = getattr(settings, "FIELD_ENCRYPTION_KEYS", None)
    if not keys or isinstance(keys, str | bytes):
        raise ImproperlyConfigured(f"FIELD_ENCRYPTION_KEYS holds no key; {KEY_REMEDY}.")
    return _box_of(tuple(str(key) for key in keys))


def newest_box() -> MultiFernet:
    """Return what knows the newest key only: it opens what needs no new encryption.

    Raises:
        ImproperlyConfigured: there is no key, or an entry is not a key.
    """
    encryption_box()
    return _box_of((str(settings.FIELD_ENCRYPTION_KEYS[0]),))


class Sealed:
    """Ciphertext as the database holds it. Shows nothing of itself; `reveal` opens it."""

    __slots__ = ("ciphertext", "where")

    def __init__(self, ciphertext: str, where: str) -> None:
        self.ciphertext = ciphertext
        self.where = where

    def __repr__(self) -> str:
        return "<sealed>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other.ciphertext == self.ciphertext

    def __hash__(self) -> int:
        return hash(self.ciphertext)

    def reveal(self, row: object = None) -> str:
        """Return the plaintext.

        Args:
            row: the primary key, for the error message.

        Raises:
            UndecryptableValue: no key opens it.
            ImproperlyConfigured: there is no valid key.
        """
        from cryptography.fernet import InvalidToken

        box = encryption_box()
        try:
            return box.decrypt(self.ciphertext.encode()).decode()
        except (InvalidToken, UnicodeError):
            row_text = "" if row is None else f" of row {row}"
            raise UndecryptableValue(
                f"{self.where}{row_text} cannot be decrypted: put the key that it was written with back into "
                "FIELD_ENCRYPTION_KEYS (behind the newest), or enter the value again."
            ) from None


class _SealedAttribute(DeferredAttribute):
    """Decrypts at first access, so that one row with a lost key never spoils a whole query."""

    def __get__(self, instance: models.Model | None, cls: type[models.Model] | None = None) -> Any:
        value = super().__get__(instance, cls)
        if instance is None or not isinstance(value, Sealed):
            return value
        # The ciphertext stays in the instance: saving the row again writes it back as it was.
        return cast(EncryptedTextField, self.field).from_plaintext(value.reveal(instance.pk))

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is encrypted at rest (Fernet: AES-128-CBC and HMAC-SHA256) with settings.FIELD_ENCRYPTION_KEYS.

    Reading the attribute gives the plaintext or raises `UndecryptableValue`, never the ciphertext. ``values()`` gives
    `Sealed` objects. Only ``isnull`` can be looked up. Forms and fixtures never show the plaintext; a fixture holds
    the ciphertext, which loads where the same keys are.
    """

    description = "Text, encrypted at rest"
    descriptor_class = _SealedAttribute

    @property
    def where(self) -> str:
        """The field's name for messages: ``tenants.Credential.secret``."""
        return f"{self.model._meta.label}.{self.name}" if hasattr(self, "model") else str(self.name)

    def from_plaintext(self, text: str) -> Any:
        """Return the value that a decrypted text stands for."""
        return text

    def to_plaintext(self, value: Any) -> str:
        """Return the text to encrypt for a value."""
        return str(value)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(value, self.where)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(SEALED_PREFIX):
            return Sealed(value.removeprefix(SEALED_PREFIX), self.where)
        return value if value is None or isinstance(value, Sealed) else str(value)

    @sensitive_variables("value")
    def get_prep_value(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Sealed):
            return value.ciphertext
        if hasattr(value, "resolve_expression"):
            return value
        return encryption_box().encrypt(self.to_plaintext(value).encode()).decode()

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        return self.stored(model_instance)

    def stored(self, instance: models.Model) -> Any:
        """Return what the instance holds without decrypting it: a value, a `Sealed` or None."""
        if self.attname not in instance.__dict__:
            instance.refresh_from_db(fields=[self.attname])
        return instance.__dict__[self.attname]

    def same(self, one: models.Model, other: models.Model) -> bool:
        """Tell whether two instances hold the same plaintext; what cannot be decrypted equals only itself."""
        mine, theirs = self.stored(one), self.stored(other)
        if mine is None or theirs is None or (isinstance(mine, Sealed) and isinstance(theirs, Sealed)):
            return bool(mine == theirs)
        try:
            return bool(getattr(one, self.attname) == getattr(other, self.attname))
        except UndecryptableValue:
            return False

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        if isinstance(value, str) and value.startswith(SEALED_PREFIX):
            raise ValidationError(f"No secret may begin with {SEALED_PREFIX}: that marks ciphertext in fixtures.")
        return super().clean(value, model_instance)

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name == "isnull":
            return super().get_lookup(lookup_name)
        raise FieldError(f"{self.where} is encrypted: {lookup_name} cannot be looked up, only isnull.")

    def get_transform(self, lookup_name: str) -> Any:
        return None

    def value_from_object(self, obj: models.Model) -> Any:
        value = self.stored(obj)
        return value if value is None or isinstance(value, Sealed) else Sealed(self.get_prep_value(value), self.where)

    def value_to_string(self, obj: models.Model) -> str:
        return f"{SEALED_PREFIX}{self.value_from_object(obj).ciphertext}"

    def formfield(self, **kwargs: Any) -> Any:
        kwargs.setdefault("widget", forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}))
        kwargs.setdefault("required", False)
        return super().formfield(**kwargs)

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        # Forms never show the stored value, so an empty one means "as it was".
        if data not in (None, ""):
            super().save_form_data(instance, data)


class EncryptedJSONField(EncryptedTextField):
    """A JSON value that is encrypted at rest; the order of an object's members is kept."""

    # For django-stubs' mypy plugin: not the text that a TextField holds.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    description = "JSON, encrypted at rest"

    def from_plaintext(self, text: str) -> Any:
        return json.loads(text)

    def to_plaintext(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        return super().to_python(value) if isinstance(value, str) and value.startswith(SEALED_PREFIX) else value

    def formfield(self, **kwargs: Any) -> Any:
        kwargs.setdefault("form_class", forms.JSONField)
        return super().formfield(**kwargs)


class NormalisedCharField(models.CharField):  # type: ignore[type-arg]
    """Text that is stored in its normal form only, however it is written: save, bulk_create, bulk_update, update.

    Args:
        check: returns the normal form, or raises `relay.errors.InvalidValue`.
    """

    def __init__(self, *args: Any, check: Callable[[str], str] | None = None, **kwargs: Any) -> None:
        self.check_value = check
        super().__init__(*args, **kwargs)

    def normalise(self, value: Any) -> Any:
        """Return the normal form; leaves None, expressions and, where it may be blank, the empty text alone.

        Raises:
            ValidationError: the value has none.
        """
        if value is None or hasattr(value, "resolve_expression") or self.check_value is None:
            return value
        if self.blank and not str(value).strip():
            return ""
        try:
            normal = self.check_value(str(value))
        except InvalidValue as error:
            raise ValidationError(str(error), code="invalid") from None
        if self.max_length is not None and len(normal) > self.max_length:
            # SQLite would take it, PostgreSQL would not say which value it is.
            raise ValidationError(
                f"The {self.verbose_name} {shorten(normal)!r} has {len(normal)} characters: {self.max_length} at most.",
                code="max_length",
            )
        return normal

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        return super().clean(self.normalise(value), model_instance)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self.normalise(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value


class ReversedNameField(models.CharField):  # type: ignore[type-arg]
    """What `tenants.names.reversed_labels` makes of a name; ``under`` finds all below a name, and itself, by an index.

    That index needs the operator class ``varchar_pattern_ops`` on PostgreSQL, whatever its collation.
    """


@ReversedNameField.register_lookup
class Under(StartsWith):
    """Begins with the text, which ends in a dot: LIKE on PostgreSQL, a range on SQLite, whose LIKE uses no index."""

    lookup_name = "under"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return StartsWith(self.lhs, self.rhs).as_sql(compiler, connection)

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """Return everything from the text up to what follows all that begins with it."""
        column, params = self.process_lhs(compiler, connection)
        text = str(self.rhs)
        return f"({column} >= %s AND {column} < %s)", [*params, text, *params, text[:-1] + chr(ord(text[-1]) + 1)]
