"""An import's changes in words: what it would create, change and remove. Secrets appear as fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from django.views.decorators.debug import sensitive_variables

from relay.config.addresses import without_query
from relay.errors import shorten
from tenants.changes.fingerprints import fingerprint
from tenants.models import CredentialKind, fields_of
from tenants.services.config_import.backend_states import BackendState, CredentialState, MappingState, Port

Action = Literal["create", "change", "remove"]
_NAMED: Final = 5  # members named in one detail
_UNREADABLE: Final = "one that cannot be decrypted"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One row that is created, changed or removed.

    Attributes:
        noun: "backend", "hostname", "node" or "tenant".
        details: of a change, what differs (old → new); of a creation, what it is.
    """

    action: Action
    noun: str
    name: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.noun} {self.name}" + (f": {'; '.join(self.details)}" if self.details else "")


def describe(state: BackendState) -> tuple[str, ...]:
    """Return what a new backend is."""
    details = [_count(len(state.hostnames), "hostname"), _count(len(state.nodes), "node")]
    if state.claims:
        details.append("claims " + ", ".join(_port(key) for key in sorted(state.claims)))
    details.append("maps " + _named([_port(key) for key in sorted(state.mappings)]))
    if state.credential is not None:
        details.append(_credential(state.credential))
    return tuple(details)


def differences(old: BackendState, new: BackendState) -> tuple[str, ...]:
    """Return how two states of a backend differ; empty for not at all."""
    if old == new:
        return ()
    return tuple(_differences(old, new))


def _differences(old: BackendState, new: BackendState) -> Iterator[str]:
    for name, value in new.fields.items():
        if old.fields[name] != value:
            yield f"{name.replace('_', ' ')} {_shown(old.fields[name])} → {_shown(value)}"
    yield from _lists("hostnames", old.hostnames, new.hostnames)
    yield from _lists("nodes", old.nodes, new.nodes, without_query)
    for key in sorted(old.claims.keys() | new.claims.keys()):
        if key not in new.claims:
            yield f"claim of {_port(key)} removed"
        elif key not in old.claims:
            yield f"claim of {_port(key)} added"
        elif old.claims[key] != new.claims[key]:
            yield f"flow idle timeout of {_port(key)} {_shown(old.claims[key])} → {_shown(new.claims[key])}"
    for key in sorted(old.mappings.keys() | new.mappings.keys()):
        if key not in new.mappings:
            yield f"mapping of {_port(key)} removed"
        elif key not in old.mappings:
            yield f"mapping of {_port(key)} added"
        else:
            yield from _mapping(_port(key), old.mappings[key], new.mappings[key])
    yield from _credentials(old.credential, new.credential)


def _mapping(name: str, old: MappingState, new: MappingState) -> Iterator[str]:
    if old.default != new.default:
        yield f"{name} default {old.default or 'none'} → {new.default or 'none'}"
    yield from _members(f"{name} host", old.hosts, new.hosts)
    before, after = fields_of(old.options), fields_of(new.options)
    for field, value in after.items():
        if before[field] != value:
            yield f"{name} {field.replace('_', ' ')} {_shown(before[field])} → {_shown(value)}"


def _members(noun: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = [
        f"{noun} {key} {old[key]} → {new[key]}" for key in sorted(old.keys() & new.keys()) if old[key] != new[key]
    ]
    yield from changed[:_NAMED]
    if len(changed) > _NAMED:
        yield f"{len(changed) - _NAMED} more {noun}s changed"
    if added := sorted(new.keys() - old.keys()):
        yield f"{noun}s added: {_named(added)}"
    if removed := sorted(old.keys() - new.keys()):
        yield f"{noun}s removed: {_named(removed)}"


def _lists(noun: str, old: Sequence[str], new: Sequence[str], show: Callable[[str], str] = str) -> Iterator[str]:
    if added := [show(value) for value in new if value not in old]:
        yield f"{noun} added: {_named(added)}"
    if removed := [show(value) for value in old if value not in new]:
        yield f"{noun} removed: {_named(removed)}"
    if not added and not removed and tuple(old) != tuple(new):
        yield f"{noun} in another order"


@sensitive_variables("old", "new")
def _credentials(old: CredentialState | None, new: CredentialState | None) -> Iterator[str]:
    if old == new:
        return
    if old is None or new is None or old.kind != new.kind:
        yield f"credential {_credential(old)} → {_credential(new)}"
        return
    if old.secret != new.secret or not old.readable:
        yield f"credential {_credential(old)} → {_credential(new)}"
    for name in ("secret_file", "command", "timeout"):
        if getattr(old, name) != getattr(new, name):
            yield f"{name.replace('_', ' ')} {_shown(getattr(old, name))} → {_shown(getattr(new, name))}"
    for name, noun in (("args", "arguments"), ("env", "environment")):
        if getattr(old, name) != getattr(new, name):
            yield f"{noun} of the command changed"
    for field in fields(new.options):
        before, after = getattr(old.options, field.name), getattr(new.options, field.name)
        if before != after:
            yield f"{field.name.replace('_', ' ')} {_shown(before)} → {_shown(after)}"


def _credential(state: CredentialState | None) -> str:
    if state is None:
        return "none"
    match state.kind:
        case CredentialKind.PRESIGNED_TOKEN | CredentialKind.HMAC_SECRET:
            shown = _UNREADABLE if state.secret is None else fingerprint(state.secret)
            return f"{'token' if state.kind == CredentialKind.PRESIGNED_TOKEN else 'HMAC secret'} {shown}"
        case CredentialKind.HMAC_SECRET_FILE:
            return f"HMAC secret file {state.secret_file}"
    return f"command {state.command}" + ("" if state.readable else f" with an environment, {_UNREADABLE}")


def _port(key: Port) -> str:
    return f"{key[0]} {key[1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _named(values: Sequence[str]) -> str:
    more = len(values) - _NAMED
    return ", ".join(values[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return shorten(", ".join(map(str, value)) if isinstance(value, list) else value)
