"""Tests mirror the source, but for what is listed here: `relay/a/b.py` has `tests/relay/a/test_b.py`, and back."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from django.test import SimpleTestCase

from tests.support.processes import ROOT

SOURCE = ("relay", "tenants", "nexusadmin")

DECLARED = "declares; the system checks of each run of tests load it"
VALUES = "values without behaviour of their own, asked by tests of what uses them"
BELOW = "a part of one subject that is tested at its face"

MODULES_TESTED_ELSEWHERE: dict[str, tuple[str, str]] = {
    "*/apps.py": ("nexusadmin/test_settings.py", DECLARED),
    # relay/
    "relay/errors.py": ("relay/config/test_addresses.py", VALUES),
    "relay/connect_handler.py": ("relay/test_relay.py", "what a program's handler is asked and answers"),
    "relay/config/backend.py": ("relay/configfile/test_convert.py", VALUES),
    "relay/config/backend_options.py": ("relay/configfile/test_convert.py", VALUES),
    "relay/config/credentials.py": ("relay/tokens/test_sources.py", VALUES),
    "relay/config/port_options.py": ("relay/configfile/test_port_options.py", VALUES),
    "relay/config/claim_rules.py": ("relay/config/test_claims.py", BELOW),
    "relay/configfile/credentials.py": ("relay/configfile/test_reader.py", BELOW),
    "relay/configfile/document.py": ("relay/configfile/test_reader.py", VALUES),
    "relay/configfile/kinds.py": ("relay/configfile/test_fields.py", BELOW),
    "relay/configfile/nodes.py": ("relay/configfile/test_reader.py", BELOW),
    "relay/configfile/port_mappings.py": ("relay/configfile/test_reader.py", BELOW),
    "relay/configfile/problems.py": ("relay/configfile/test_reader.py", BELOW),
    "relay/configfile/values.py": ("relay/configfile/test_reader.py", BELOW),
    "relay/protocol/events.py": ("relay/protocol/test_session.py", VALUES),
    "relay/protocol/counters.py": ("relay/protocol/test_session.py", VALUES),
    "relay/protocol/handshake.py": ("relay/protocol/test_states.py", BELOW),
    "relay/transport/receiver.py": ("relay/transport/test_connection.py", "an interface"),
    "relay/protocol/stream.py": ("relay/protocol/test_session.py", BELOW),
    "relay/protocol/times.py": ("relay/protocol/test_session.py", VALUES),
    "relay/sessions/host.py": ("relay/sessions/test_streams.py", "what streams ask of their host"),
    "relay/sessions/phases.py": ("relay/sessions/test_session.py", BELOW),
    "relay/sessions/stream_book.py": ("relay/sessions/test_session.py", BELOW),
    "relay/sessions/totals.py": ("relay/sessions/test_usage.py", VALUES),
    "relay/supervision/backend_runner.py": ("relay/supervision/test_supervisor.py", BELOW),
    "relay/timings.py": ("relay/sessions/test_session.py", VALUES),
    "relay/tokens/issuer.py": ("relay/tokens/test_sources.py", BELOW),
    "relay/devnode/counters.py": ("relay/devnode/test_streams.py", VALUES),
    "relay/devnode/options.py": ("relay/devnode/test_node.py", VALUES),
    "relay/devnode/serve.py": ("relay/devnode/test_node.py", BELOW),
    "relay/devnode/*stream.py": ("relay/devnode/test_streams.py", BELOW),
    # tenants/
    "tenants/models/*.py": ("tenants/test_constraints.py", "rows and constraints; the rest is in rules/ and services/"),
    "tenants/names.py": ("tenants/rules/test_ownership.py", BELOW),
    "tenants/memory.py": ("tenants/management/commands/test_import_config.py", "a setting of the collector"),
    "tenants/token_claims.py": ("tenants/admin/test_credential.py", BELOW),
    "tenants/trigrams.py": ("tenants/test_migrations.py", "indexes, which migrations make"),
    "tenants/validators.py": ("tenants/test_constraints.py", "run by the fields that have them"),
    "tenants/changes/actor.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/audit_entry.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/change_log.py": ("tenants/bridge/test_follower.py", "read by the follower"),
    "tenants/changes/differences.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/entries.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/fingerprints.py": ("tenants/bridge/test_reporter.py", "compared with those that relays report"),
    "tenants/changes/record_rules.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/role.py": ("tenants/changes/test_visibility.py", VALUES),
    "tenants/changes/row_names.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/changes/signals.py": ("tenants/changes/test_generations.py", VALUES),
    "tenants/changes/snapshots.py": ("tenants/changes/test_recorder.py", BELOW),
    "tenants/rules/limits.py": ("tenants/rules/test_ownership_races.py", BELOW),
    "tenants/admin/base.py": ("tenants/admin/test_matrix.py", "what all pages share"),
    "tenants/admin/gate.py": ("tenants/admin/test_tenancy.py", "what all pages share"),
    "tenants/admin/forms.py": ("tenants/admin/test_backend.py", "what all pages share"),
    "tenants/admin/filters.py": ("tenants/admin/test_search.py", "what all lists share"),
    "tenants/services/audit/journal.py": ("tenants/admin/test_audit_entry.py", "seen in the list of entries"),
    "tenants/services/audit/presentation.py": ("tenants/admin/test_audit_entry.py", "seen in the list of entries"),
    "tenants/services/tokens/entitlements.py": ("tenants/services/tokens/test_issue.py", BELOW),
    "tenants/services/tokens/revocations.py": ("tenants/test_housekeeping.py", "one of its jobs"),
    "tenants/verifier/callers.py": ("tenants/verifier/test_app.py", BELOW),
    "tenants/verifier/recorder.py": ("tenants/verifier/test_app.py", BELOW),
    "tenants/verifier/verifier.py": ("tenants/verifier/test_app.py", BELOW),
    "tenants/verifier/cache.py": ("tenants/verifier/test_decision.py", BELOW),
    "tenants/verifier/token.py": ("tenants/verifier/test_decision.py", BELOW),
    # nexusadmin/
    "nexusadmin/celery.py": ("tenants/test_housekeeping.py", "the schedule of its jobs"),
    "nexusadmin/environment.py": ("nexusadmin/test_settings.py", BELOW),
    "nexusadmin/keys.py": ("nexusadmin/test_settings.py", BELOW),
    "nexusadmin/log_lines.py": ("nexusadmin/test_logs.py", BELOW),
    "nexusadmin/management/commands/check.py": ("nexusadmin/test_connections.py", "what it adds to Django's"),
    "nexusadmin/management/commands/quickstart.py": ("nexusadmin/test_quickstart.py", "run whole"),
    "nexusadmin/quickstart/*.py": ("nexusadmin/test_quickstart.py", "run whole"),
    "nexusadmin/web/static_files.py": ("nexusadmin/web/test_asgi.py", BELOW),
    "nexusadmin/accounts/admin/group.py": ("tenants/admin/test_matrix.py", "tried there as each kind of user"),
    "nexusadmin/accounts/admin/operators_only.py": ("tenants/admin/test_matrix.py", "tried there as each kind of user"),
    "nexusadmin/accounts/models/login_session.py": ("nexusadmin/accounts/services/test_login_sessions.py", BELOW),
    "nexusadmin/accounts/models/recovery_codes.py": ("nexusadmin/accounts/services/test_second_factor.py", BELOW),
    "nexusadmin/accounts/views/pages.py": ("nexusadmin/accounts/views/test_sessions.py", "what all pages share"),
}  # fmt: skip
"""Modules (patterns of paths) without a test module of their name: where they are tested, and why there."""

TESTS_WITHOUT_MODULE: dict[str, str] = {
    "acceptance/*": "whole installations, as users see them",
    "docs/*": "documents and examples",
    "repository/*": "the repository itself",
    "support/*": "the tests' own tools",
    "relay/configfile/test_vectors.py": "recorded files",
    "tenants/services/config_import/test_vectors.py": "recorded files, into the registry and out again",
    "relay/protocol/test_replay.py": "recorded sessions",
    "relay/protocol/test_properties.py": "the core under any order of inputs",
    "relay/devnode/test_recorded.py": "recorded sessions",
    "relay/devnode/test_streams.py": "streams of all kinds, over a socket",
    "relay/devnode/test_uvloop.py": "the node on the other event loop",
    "relay/sessions/test_target_bounds.py": "what slow targets may hold, over session and streams",
    "tenants/admin/test_auditor.py": "a role over all pages",
    "tenants/admin/test_matrix.py": "all roles over all pages",
    "tenants/admin/test_tenancy.py": "members over all pages",
    "tenants/admin/test_queries.py": "the queries of all pages",
    "tenants/admin/test_lists.py": "all lists",
    "tenants/admin/test_browser.py": "pages in a real browser",
    "tenants/admin/test_audit_browser.py": "pages in a real browser",
    "tenants/changes/test_ordering.py": "the order of generations under many writers",
    "tenants/rules/test_ownership_indexes.py": "the queries of a rule",
    "tenants/rules/test_ownership_races.py": "a rule under many writers",
    "tenants/bridge/test_odd_rows.py": "rows that no form would write, all the way to a relay",
}
"""Test modules (patterns of paths) without a module of their name, and what they are about."""


def modules() -> list[str]:
    """Paths of all modules that should have tests: no packages' `__init__`, no migrations."""
    found = (file.relative_to(ROOT) for place in SOURCE for file in (ROOT / place).rglob("*.py"))
    return sorted(str(file) for file in found if file.name != "__init__.py" and "migrations" not in file.parts)


def tests() -> list[str]:
    """Paths of all test modules, below tests/."""
    return sorted(str(file.relative_to(ROOT / "tests")) for file in (ROOT / "tests").rglob("test_*.py"))


def mirror(module: str) -> str:
    """Return where a module's tests belong, below tests/."""
    path = Path(module)
    return str(path.with_name(f"test_{path.name}"))


def has_module(test: str) -> bool:
    """Say whether there is a module, or a package, of a test module's name."""
    path = Path(test)
    source = ROOT / path.with_name(path.name.removeprefix("test_"))
    return source.exists() or (source.with_suffix("") / "__init__.py").exists()


class LayoutTests(SimpleTestCase):
    def test_each_module_has_tests_in_its_place(self) -> None:
        there = set(tests())
        without = [module for module in modules() if mirror(module) not in there]
        unlisted = [name for name in without if not any(fnmatch(name, each) for each in MODULES_TESTED_ELSEWHERE)]
        self.assertEqual(unlisted, [], "each needs a test module, or a place in MODULES_TESTED_ELSEWHERE")
        stale = [each for each in MODULES_TESTED_ELSEWHERE if not any(fnmatch(name, each) for name in without)]
        self.assertEqual(stale, [], "nothing needs these entries of MODULES_TESTED_ELSEWHERE")

    def test_listed_tests_are_there(self) -> None:
        there = set(tests())
        self.assertEqual([test for test, _ in MODULES_TESTED_ELSEWHERE.values() if test not in there], [])

    def test_each_test_module_has_its_module(self) -> None:
        without = [test for test in tests() if not has_module(test)]
        unlisted = [name for name in without if not any(fnmatch(name, each) for each in TESTS_WITHOUT_MODULE)]
        self.assertEqual(unlisted, [], "move each with its module, or say in TESTS_WITHOUT_MODULE what it is about")
        stale = [each for each in TESTS_WITHOUT_MODULE if not any(fnmatch(name, each) for name in without)]
        self.assertEqual(stale, [], "nothing needs these entries of TESTS_WITHOUT_MODULE")
