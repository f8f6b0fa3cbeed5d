"""Form fields that are written and never shown."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import JSONField
from django.forms.fields import InvalidJSONInput
from unfold.widgets import UnfoldAdminPasswordWidget

from tenants.fields import EncryptedJSONField, EncryptedTextField

STORED = "stored; leave blank to keep it"


class SecretWidget(UnfoldAdminPasswordWidget):
    """A password input that renders no value, whatever it is given, also after an error."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"autocomplete": "new-password", "spellcheck": "false", **(attrs or {})}, render_value=False)


class SecretField(forms.CharField):
    """A secret as it is entered, blanks included; a blank field is no change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "strip": False, "required": False})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return data not in (None, "")


class CheckedJSONField(forms.JSONField):
    """JSON that every database takes; anything else is an error at the field, also what Python's reader fails at."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
            text = json.dumps(found, ensure_ascii=False, allow_nan=False)
            text.encode()  # half a pair of surrogates has no bytes
        except (ValueError, RecursionError):  # digits without end, NaN, brackets in brackets without end
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value}) from None
        if "\\u0000" in text:
            raise ValidationError("This holds a NUL character, which no text may hold.", code="nul")
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Show it again as it was written, without another look at what it says."""
        return initial if self.disabled else None if data is None else InvalidJSONInput(data)


class SecretJSONField(CheckedJSONField):
    """A JSON value that is not shown again; a blank field is no change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "required": False})
        self.error_messages["invalid"] = 'This is no JSON: write it as in {"NAME": "value"}.'

    def prepare_value(self, value: Any) -> str:
        return ""

    def has_changed(self, initial: Any, data: Any) -> bool:
        return data not in (None, "")


OVERRIDES: dict[Any, dict[str, Any]] = {
    EncryptedTextField: {"form_class": SecretField, "widget": SecretWidget},
    EncryptedJSONField: {"form_class": SecretJSONField, "widget": SecretWidget},
    JSONField: {"form_class": CheckedJSONField},
}
"""``formfield_overrides`` of every admin class: without them encrypted fields would get their parent's text area."""
