"""What the isolation walk asks, found by looking: addresses, lists, fields, filters, actions, forms.

A page that is added later is asked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db import models
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.support.isolation.rows import OTHERS, OURS, shown_models
from tests.tenants.admin.pages import fields_of

MISSING = 987_654
PART = OTHERS.mark[:3]


@dataclass(frozen=True)
class Probe:
    """One request."""

    kind: str
    method: str
    address: str
    data: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.method} {self.address} {dict(self.data)}"


def addresses(resolver: URLResolver | None = None, prefix: str = "/") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every address pattern of the site with the converters of its parameters."""
    for each in (resolver or get_resolver()).url_patterns:
        route = prefix + str(each.pattern).lstrip("^").rstrip("$")
        if isinstance(each, URLResolver):
            yield from addresses(each, route)
        elif isinstance(each, URLPattern):
            yield route, dict(each.pattern.converters)


def filled(route: str, key: str) -> str:
    """Return the address with every parameter filled in; numbers and paths with a key."""
    address = re.sub(r"<(?:path|int):\w+>", key, route)
    address = re.sub(r"<(?:str:)?\w+>", key, address)
    address = re.sub(r"\(\?P<\w+>[^)]*\)", key, address)
    return re.sub(r"[\\$^?]", "", address)


def address_of(model: type[models.Model], action: str, *key: object) -> str:
    """Return the address of an admin page."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}", args=key)


def probes() -> Iterator[Probe]:
    """Yield all that does not depend on who asks, but for filtered lists."""
    yield from page_probes()
    yield from list_probes(shown_models())
    yield from choice_probes()


def page_probes() -> Iterator[Probe]:
    """Yield every address, with keys of the other tenant's, of a missing row, and of one's own."""
    seen = set()
    for route, converters in addresses():
        keys = [str(OTHERS.key), str(MISSING), str(OURS.key)] if converters or "<" in route else [""]
        for key in keys:
            address = filled(route, key)
            if address in seen or "logout" in address:
                continue
            seen.add(address)
            yield Probe("page", "get", address)
            yield Probe("page", "post", address, (("post", "yes"),))


def list_probes(of: Iterable[type[models.Model]]) -> Iterator[Probe]:
    """Yield every list: searched, sorted, and with each action on the other tenant's row."""
    for model in of:
        model_admin = admin.site._registry[model]
        address = address_of(model, "changelist")
        for query in (f"q={PART}", "q=a", "all=", "e=1", "o=1", "o=-2", "p=2"):
            yield Probe("list", "get", f"{address}?{query}")
        for action in sorted({"delete_selected", *map(str, model_admin.actions or ())}):
            data = (("action", action), ("_selected_action", str(OTHERS.key)), ("index", "0"))
            yield Probe("action", "post", address, data)
            yield Probe("action", "post", address, (*data, ("post", "yes")))
            yield Probe("action", "post", address, (*data, ("select_across", "1")))


def filter_probes(of: Iterable[type[models.Model]]) -> Iterator[Probe]:
    """Yield every list filtered by each field and filter, whether the list offers it or not."""
    for model in of:
        address = address_of(model, "changelist")
        fields = {each.name: each for each in model._meta.get_fields()}
        names = set(fields)
        for each in admin.site._registry[model].list_filter:
            names.add(str(getattr(each, "parameter_name", None) or (each[0] if isinstance(each, tuple) else each)))
        for name in sorted(names):
            for value in (str(OTHERS.key), PART):
                yield Probe("filter", "get", f"{address}?{name}={value}")
            lookups = ["__isnull", "__in"]
            if not _is_plain(fields.get(name)):
                lookups += ["__exact", "__id__exact"]  # a plain field's own is `exact`, and it has no `id`
            for lookup in lookups:
                yield Probe("filter", "get", f"{address}?{name}{lookup}={OTHERS.key}")


def _is_plain(field: Any) -> bool:
    return field is not None and not field.is_relation and not isinstance(field, models.JSONField)


def choice_probes() -> Iterator[Probe]:
    """Yield every foreign key's choices, whether a page offers them or not."""
    address = reverse("admin:autocomplete")
    for model in apps.get_models():
        for each in model._meta.get_fields():
            if isinstance(each, models.ForeignKey | models.ManyToManyField):
                label = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}"
                for term in ("", PART):
                    yield Probe("choices", "get", f"{address}?{label}&field_name={each.name}&term={term}")


def form_probes(client: Any) -> Iterator[Probe]:
    """Yield every form that a user is shown, with the other tenant's key in each field that names a row."""
    for model in shown_models():
        own = model._base_manager.filter(pk__lt=OTHERS.key).order_by("pk").first()
        pages = [address_of(model, "add")] + ([address_of(model, "change", own.pk)] if own is not None else [])
        for address in pages:
            answer = client.get(address)
            if answer.status_code != 200:
                continue
            given = fields_of(answer)
            yield Probe("form", "post", address, tuple(sorted(given.items())))
            for name in given:
                last = name.rpartition("-")[2]
                if last == "id" or _names_a_row(model, name, last):
                    changed = {**given, name: str(OTHERS.key)}
                    yield Probe("form", "post", address, tuple(sorted(changed.items())))


def _names_a_row(model: type[models.Model], name: str, last: str) -> bool:
    """Say whether a form's field names a row by its key."""
    if "__prefix__" in name:
        return False
    return any(
        isinstance(each, models.ForeignKey) and each.name == last
        for candidate in (model, *(relation.related_model for relation in model._meta.related_objects))
        for each in candidate._meta.get_fields()
    )
