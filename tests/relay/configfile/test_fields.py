"""Tests of relay.configfile.fields: each line of the table goes from a file to a configuration and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay.config import BackendConfig, BackendSettings, HealthCheckOptions, RemovalMode
from relay.configfile import BackendDocument, ConfigDocument, dump, fields, parse_config, to_relay_config
from relay.configfile.fields import FIELDS, GROUPS, Field, from_columns, gather, to_columns, write_fields
from relay.configfile.kinds import Address, Choice, Flag, Line, Ports, Seconds, Whole

BARE = b"""
backends:
  - name: edge
    hostnames: [app.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: a-secret-of-some-length}
    portMappings: {443: "localhost:8443"}
"""


def another(field: Field, number: int) -> Any:
    """Return a value that the field may have and that is not its default."""
    match field.kind:
        case Flag():
            return not field.default
        case Seconds():
            return float(100 + number)
        case Whole():
            return 100 + number
        case Line():
            return f"https://example.com/{number}"
        case Address():
            return f"127.0.0.1:{1000 + number}"
        case Ports():
            return (25, 1000 + number)
        case Choice():
            return next(word for word in field.kind.words if word is not field.default)
    raise AssertionError(f"no value for {field.kind}")


def set_in(document: BackendDocument, values: dict[str, Any]) -> BackendDocument:
    """Return a document with these values, by attribute."""
    changes: dict[str, Any] = {}
    for attribute, value in values.items():
        head, _, name = attribute.removeprefix("claims.").partition(".")
        if name:
            changes[head] = replace(changes.get(head, getattr(document, head)), **{name: value})
        else:
            changes[head] = value
    return replace(document, **changes)


def value_of(config: BackendConfig, field: Field) -> Any:
    """Return what a configuration has for a field."""
    found: Any = config
    for name in field.attribute.split("."):
        found = getattr(found, name)
    return found


def all_changed() -> dict[str, Any]:
    """Return a value for every field, none of them the default, that go together."""
    return {field.attribute: another(field, number) for number, field in enumerate(FIELDS)} | {
        "flow_control.high_water": 50,
        "flow_control.low_water": 20,
        "flow_control.max_buffer": 70,
    }


class TableTests(SimpleTestCase):
    def setUp(self) -> None:
        self.bare = parse_config(BARE, "bare.yaml").backends[0]

    def through_a_file(self, document: BackendDocument) -> BackendDocument:
        text = dump(ConfigDocument((document,)), include_secrets=True)
        return parse_config(text.encode(), "written.yaml").backends[0]

    def test_each_field_alone(self) -> None:
        for number, field in enumerate(FIELDS):
            value = all_changed()[field.attribute] if field.group == "flowControl" else another(field, number)
            values = {field.attribute: value}
            if isinstance(field.kind, Ports):
                values["claims.outbound_allowed"] = True
            with self.subTest(field.key):
                self.assertNotEqual(value, field.default)
                document = self.through_a_file(set_in(self.bare, values))
                self.assertEqual(field.value_in(document), value)
                self.assertEqual(document, set_in(self.bare, values), "nothing else")
                config = to_relay_config(ConfigDocument((document,))).backends["edge"]
                self.assertEqual(value_of(config, field), value)

    def test_all_fields_together(self) -> None:
        document = set_in(self.bare, all_changed())
        written = write_fields(document)
        for field in FIELDS:
            found = written[field.group] if field.group else written
            self.assertIn(field.name, found)
        self.assertEqual(self.through_a_file(document), document)

    def test_nothing_is_written_of_the_defaults(self) -> None:
        self.assertEqual(write_fields(self.bare), {})

    def test_columns_are_the_same_values(self) -> None:
        document = set_in(self.bare, all_changed())
        row = to_columns(document, "backend") | to_columns(document, "credential")
        self.assertEqual(len(row), len(FIELDS), "no column twice")
        self.assertEqual(from_columns(row), all_changed())
        self.assertEqual(row["removal_mode"], "kill")
        self.assertIs(type(row["removal_seconds"]), int)

    def test_every_setting_of_a_configuration_has_a_line(self) -> None:
        known = {field.attribute for field in FIELDS}
        for name, value in asdict(BackendSettings()).items():
            for attribute in [f"{name}.{each}" for each in value] if isinstance(value, dict) else [name]:
                self.assertIn(attribute, known)
        self.assertEqual({field.group for field in FIELDS} - {""}, set(GROUPS))

    def test_a_column_that_cannot_be(self) -> None:
        for column, value in (("allowed_outbound_ports", "25"), ("allowed_outbound_ports", [0]), ("removal_mode", "?")):
            with self.subTest(column), self.assertRaises(ValueError):
                from_columns({column: value})


@dataclass(frozen=True, slots=True)
class HealthCheckOptionsOfTomorrow(HealthCheckOptions):
    jitter: float = 0.25


class NewFieldTests(SimpleTestCase):
    """A field that is made up: the attribute, the column, and one line."""

    LINE = Field("healthChecks.jitter", "health_checks.jitter", "health_check_jitter", Seconds(0))

    def test_one_line_is_enough(self) -> None:
        with (
            mock.patch.object(fields, "FIELDS", (*FIELDS, self.LINE)),
            mock.patch.dict(fields._TYPES, {"health_checks": HealthCheckOptionsOfTomorrow}),
        ):
            text = BARE + b"    healthChecks: {jitter: 3}\n"
            document = parse_config(text, "new.yaml").backends[0]
            self.assertEqual(document.health_checks, HealthCheckOptionsOfTomorrow(jitter=3.0))
            self.assertEqual(to_relay_config(ConfigDocument((document,))).backends["edge"].health_checks.jitter, 3.0)  # type: ignore[attr-defined]
            columns = to_columns(document, "backend")
            self.assertEqual(columns["health_check_jitter"], 3)
            self.assertEqual(gather(from_columns(columns))["health_checks"], document.health_checks)
            self.assertIn("health_check_jitter", fields.columns_of("backend"))

    def test_the_word_of_a_choice_is_kept(self) -> None:
        kind = Choice(RemovalMode)
        self.assertEqual((kind.to_column(RemovalMode.KILL), kind.from_column("kill")), ("kill", RemovalMode.KILL))
