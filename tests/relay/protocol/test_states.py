"""Tests of relay.protocol.states, and of every table that is made of it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from django.test import SimpleTestCase

from relay.protocol.handshake import HANDSHAKE, HandshakeEvent, HandshakeState
from relay.protocol.states import IllegalTransition, advance
from relay.protocol.stream import STREAM_LIFE, StreamEvent, StreamLife
from relay.sessions.phases import (
    SESSION_TRANSITIONS,
    UPLINK_TRANSITIONS,
    SessionPhase,
    SessionStep,
    UplinkState,
    UplinkStep,
)
from relay.sessions.streams import STREAM_TRANSITIONS, StreamPhase, StreamStep

TABLES: list[tuple[Any, type[Enum], type[Enum], Enum]] = [
    (HANDSHAKE, HandshakeState, HandshakeEvent, HandshakeState.START),
    (STREAM_LIFE, StreamLife, StreamEvent, StreamLife.DIALLING),
    (STREAM_TRANSITIONS, StreamPhase, StreamStep, StreamPhase.CARRYING),
    (SESSION_TRANSITIONS, SessionPhase, SessionStep, SessionPhase.OPENING),
    (UPLINK_TRANSITIONS, UplinkState, UplinkStep, UplinkState.CONNECTING),
]


class TableTests(SimpleTestCase):
    def test_each_names_all_states_and_uses_all_events(self) -> None:
        for table, states, events, _ in TABLES:
            with self.subTest(states.__name__):
                self.assertEqual(set(table), set(states))
                self.assertEqual({event for steps in table.values() for event in steps}, set(events))

    def test_every_state_can_be_reached(self) -> None:
        for table, states, _, first in TABLES:
            reached, new = set(), {first}
            while new:
                reached |= new
                new = {after for state in new for after in table[state].values()} - reached
            self.assertEqual(reached, set(states))

    def test_a_step_that_the_table_does_not_have(self) -> None:
        with self.assertRaisesRegex(IllegalTransition, "CHALLENGED has no place in HandshakeState.OPEN"):
            advance(HANDSHAKE, HandshakeState.OPEN, HandshakeEvent.CHALLENGED)

    def test_what_has_ended_stays_ended(self) -> None:
        for table, last in (
            (HANDSHAKE, HandshakeState.FAILED),
            (STREAM_LIFE, StreamLife.OVER),
            (SESSION_TRANSITIONS, SessionPhase.ENDED),
            (STREAM_TRANSITIONS, StreamPhase.DROPPED),
        ):
            self.assertLessEqual(set(table[last].values()), {last})  # type: ignore[index]
