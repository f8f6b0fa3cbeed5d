"""Form fields that are written and never shown."""

from __future__ import annotations

from typing import Any

from django import forms
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


class SecretJSONField(forms.JSONField):
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
}
"""``formfield_overrides`` of every admin class: without them encrypted fields would get their parent's text area."""
