"""Tests of tenants.services.relays.states: what is so now, by what relays told and by nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

from django.test import TestCase
from django.utils import timezone

from tenants.models import Backend, Role
from tenants.services.relays import states
from tenants.services.relays.states import State, backend_states, node_states, node_troubles, troubled_backends
from tests.support.registry import make_backend, make_node, make_served_backend, make_tenant
from tests.tenants.admin.pages import make_user
from tests.tenants.services.relays.reporting import alive, failed, unreached, up


class StateTestCase(TestCase):
    def setUp(self) -> None:
        self.acme = make_tenant(slug="acme")
        self.backend = make_served_backend(self.acme, name="edge")
        self.node = self.backend.nodes.get()
        self.other = make_node()

    def state(self, user: Any = None) -> states.BackendState:
        rows = Backend.objects.filter(pk=self.backend.pk).select_related("tenant").prefetch_related("node_links__node")
        return backend_states(rows, user)[self.backend.pk]


class BackendTests(StateTestCase):
    def test_off_whatever_relays_tell(self) -> None:
        up(self.backend, self.node)
        Backend.objects.filter(pk=self.backend.pk).update(enabled=False)
        self.assertEqual((self.state().state, self.state().sentence), (State.OFF, "It is disabled."))

    def test_no_relay_reports(self) -> None:
        alive()
        self.assertEqual(self.state().state, State.UNREPORTED)
        self.assertIn("None runs that carries it", self.state().sentence)
        dead = alive("dead", seconds=-1)
        up(self.backend, self.node, dead)
        failed(self.backend, self.node, dead)
        self.assertEqual(self.state().state, State.UNREPORTED, "rows of a relay that has gone are not believed")

    def test_up_needs_a_session_at_each_enabled_node(self) -> None:
        up(self.backend, self.node)
        self.assertEqual((self.state().state, self.state().sentence), (State.UP, ""))
        self.backend.nodes.add(self.other)
        found = self.state()
        self.assertEqual([node.state for node in found.nodes], [State.UP, State.UNREPORTED])
        self.assertEqual(found.state, State.DEGRADED)
        failed(self.backend, self.other, problem="node refused the credentials: expired")
        found = self.state()
        self.assertEqual([node.state for node in found.nodes], [State.UP, State.DOWN])
        self.assertEqual(found.sentence, f"{self.other.name}: node refused the credentials: expired")
        self.other.enabled = False
        self.other.save()
        self.assertEqual(self.state().state, State.UP)

    def test_down_with_the_sentence_since_when_and_the_next_try(self) -> None:
        then, soon = timezone.now() - timedelta(minutes=5), timezone.now() + timedelta(minutes=1)
        failed(self.backend, self.node, since=then, next_try=soon)
        found = self.state()
        (node,) = found.nodes
        self.assertEqual((found.state, found.since), (State.DOWN, then))
        self.assertEqual((node.sentence, node.attempts, node.next_try), ("nothing listens there", 3, soon))
        self.assertEqual(node.relay, "relay-1")
        up(self.backend, self.node, state="draining")
        self.assertEqual(self.state().state, State.DOWN, "a session that drains is not up")
        self.backend.nodes.clear()
        self.assertEqual(self.state().state, State.DOWN)
        self.assertIn("no enabled node", self.state().sentence)

    def test_a_second_relay_that_serves(self) -> None:
        failed(self.backend, self.node, alive("relay-2"))
        up(self.backend, self.node)
        found = self.state()
        self.assertEqual(found.state, State.UP)
        self.assertIn("relay-2", found.nodes[0].sentence)

    def test_an_edit_that_the_node_does_not_take(self) -> None:
        up(self.backend, self.node)
        failed(self.backend, self.node, state="up", problem="not today")
        found = self.state()
        self.assertEqual(found.state, State.DEGRADED)
        self.assertIn("newest configuration is not taken: not today", found.sentence)

    def test_targets(self) -> None:
        up(self.backend, self.node)
        row = unreached(self.backend)
        found = self.state()
        self.assertEqual((found.state, found.sentence), (State.DEGRADED, "Target db:1: timed out"))
        row.all_fail = True
        row.save()
        self.assertEqual(self.state().state, State.DOWN)
        up(self.backend, self.node, alive("relay-2"))
        self.assertEqual(self.state().state, State.DEGRADED, "the other relay reaches it")

    def test_others_are_told_nothing(self) -> None:
        failed(self.backend, self.node)
        self.assertEqual(self.state(make_user("viewer", acme=Role.VIEWER)).state, State.DOWN)
        make_tenant(slug="other")
        self.assertEqual(self.state(make_user("stranger", other=Role.OWNER)).state, State.UNREPORTED)


class ManyTests(StateTestCase):
    def test_many_cost_three_queries(self) -> None:
        for number in range(10):
            backend = make_backend(self.acme, name=f"b{number}")
            backend.nodes.add(self.node)
            failed(backend, self.node)
            unreached(backend)
        rows = list(Backend.objects.select_related("tenant").prefetch_related("node_links__node"))
        with self.assertNumQueries(3):
            found = backend_states(rows)
        self.assertEqual(len(found), 11)

    def test_the_worst_first_and_only_what_the_user_may_see(self) -> None:
        self.assertEqual(troubled_backends(None).reported, False)
        up(self.backend, self.node)
        made = {}
        for name in ("degraded", "down", "silent", "off", "lonely", "half"):
            made[name] = make_backend(self.acme, name=name, enabled=name != "off")
            if name != "lonely":
                made[name].nodes.add(self.node)
        up(made["degraded"], self.node)
        unreached(made["degraded"])
        failed(made["down"], self.node)
        failed(made["off"], self.node)
        made["half"].nodes.add(self.other)
        up(made["half"], self.node)
        found = troubled_backends(None)
        names = {backend.pk: backend.name for backend in made.values()}
        self.assertEqual(
            [(names[pk], state.state) for pk, state in found.states.items()],
            [
                ("down", State.DOWN),
                ("lonely", State.DOWN),
                ("degraded", State.DEGRADED),
                ("half", State.DEGRADED),
                ("silent", State.UNREPORTED),
            ],
        )
        self.assertEqual((found.count(State.DOWN), found.capped), (2, False))
        make_tenant(slug="other")
        self.assertEqual(troubled_backends(make_user("stranger", other=Role.OWNER)).states, {})

    def test_it_is_bounded(self) -> None:
        alive()
        for number in range(4):
            make_backend(self.acme, name=f"b{number}").nodes.add(self.node)
        with mock.patch.object(states, "COUNTED", 2):
            found = troubled_backends(None)
        self.assertTrue(found.capped)
        self.assertLessEqual(len(found.states), 8)


class NodeTests(StateTestCase):
    def test_by_the_backends_of_the_user(self) -> None:
        off = make_node(enabled=False)
        up(self.backend, self.node)
        failed(self.backend, self.other)
        found = node_states([self.node, self.other, off], None)
        self.assertEqual(
            [found[node.pk][0] for node in (self.node, self.other, off)], [State.UP, State.DOWN, State.OFF]
        )
        failed(make_backend(self.acme, name="x"), self.node)
        self.assertEqual(node_states([self.node], None)[self.node.pk], (State.DEGRADED, "1 up, 1 with a problem"))
        self.assertEqual([row.backend.name for row in node_troubles(self.node, None)], ["x"])
        make_tenant(slug="other")
        stranger = make_user("stranger", other=Role.OWNER)
        self.assertEqual(node_states([self.node], stranger)[self.node.pk], (State.UNREPORTED, ""))
        self.assertEqual(node_troubles(self.node, stranger), [])
