"""Tests of relay.targets.health."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import TestCase, mock

from hypothesis import given
from hypothesis import strategies as st

from relay.config.port_options import TargetHealth
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target
from relay.logs import MOST_OF_GROUP
from relay.targets import health
from relay.targets.dialing import Dialer
from relay.targets.health import HealthChecks, TargetStatus, Verdict
from tests.support.relays import Leaks, on_both_loops, recorded_logs
from tests.support.targets import EchoTarget
from tests.support.waiting import async_wait_until

OFTEN = TargetHealth(interval=0.005, timeout=5, up_after=2, down_after=3)
APP = Target("tcp", host="app.example", port=80)


class ScriptedDialer(Dialer):
    """Answers probes as it is told.

    Attributes:
        answers: what comes next: True, False or None (never); when there is nothing left, the last one goes on.
        before: called at the beginning of each probe.
    """

    def __init__(self, *answers: bool | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.probed: Counter[Target] = Counter()
        self.under_way = self.most_under_way = 0
        self.before: Callable[[], object] = lambda: None

    async def probe(self, target: Target, timeout: float, policies: Sequence[TargetPolicy] = ()) -> None:
        self.before()
        self.probed[target] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                async with asyncio.timeout(timeout):
                    await asyncio.Event().wait()
            if not answer:
                raise ConnectionRefusedError(111, "refused")
        finally:
            self.under_way -= 1


class FlappingDialer(ScriptedDialer):
    """Whose targets are down at one probe and up at the next."""

    async def probe(self, target: Target, timeout: float, policies: Sequence[TargetPolicy] = ()) -> None:
        self.answers = [self.probed[target] % 2 == 1]
        await super().probe(target, timeout, policies)


class VerdictTests(TestCase):
    @given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
    def test_it_follows_the_last_outcomes_in_a_row(self, outcomes: list[bool], up_after: int, down_after: int) -> None:
        verdict = Verdict(TargetHealth(interval=1, up_after=up_after, down_after=down_after))
        up = True
        for number, outcome in enumerate(outcomes, 1):
            last, row = [(key, len(list(group))) for key, group in itertools.groupby(outcomes[:number])][-1]
            expected = last if row >= (up_after if last else down_after) else up
            self.assertEqual(verdict.note(outcome), expected is not up)
            up = expected
            self.assertEqual(verdict.up, up)


class HealthChecksTests(TestCase):
    @on_both_loops
    async def test_a_check_that_ends_as_it_is_stopped_is_the_last(self) -> None:
        dialer = ScriptedDialer(True)
        checks = HealthChecks(dialer)
        # The call comes after the check's own end, and before what that calls.
        loop = asyncio.get_running_loop()
        dialer.before = lambda: loop.call_soon(checks.follow, "a", ())
        checks.follow("a", [(APP, OFTEN, ())])
        checker = checks._checkers[APP, OFTEN, ()]
        await async_wait_until(lambda: dialer.probed[APP] and checker._task is None, "the check's end")
        due = checker._timer
        self.assertTrue(due.cancelled() or due.when() <= loop.time(), "no other is due")

    @on_both_loops
    async def test_a_target_goes_down_and_comes_back_with_a_line_for_each(self) -> None:
        leaks = Leaks()
        outcomes = "+--+---+-+++"
        dialer = ScriptedDialer(*(outcome == "+" for outcome in outcomes))
        checks = HealthChecks(dialer)
        seen: list[TargetStatus] = []
        dialer.before = lambda: seen.extend(checks.statuses("a"))
        with recorded_logs() as logs:
            checks.follow("a", [(APP, OFTEN, ())])
            await async_wait_until(lambda: len(seen) > len(outcomes), "the script's end")
        self.assertEqual(seen[0], TargetStatus("app.example:80", 0.005, True, "", None))
        self.assertEqual("".join("ud"[not status.up] for status in seen[: len(outcomes)]), "uuuuuuuddddu")
        self.assertEqual({status.problem for status in seen if not status.up}, {"", "Connection refused"})
        self.assertEqual([status.since is None for status in seen[6:8]], [True, False])
        self.assertEqual(logs.text(), "target down: Connection refused\ntarget up")
        self.assertEqual({record.target for record in logs.records}, {"app.example:80"})
        checks.follow("a", [])
        await leaks.check()

    @on_both_loops
    async def test_targets_that_come_and_go_all_the_time_do_not_flood_the_log(self) -> None:
        settings = TargetHealth(interval=0.005, timeout=5, up_after=1, down_after=1)
        dialer = FlappingDialer()
        checks = HealthChecks(dialer, "shop")
        with recorded_logs() as logs, mock.patch("relay.targets.health.A_SECOND", 100_000):
            targets = [Target("tcp", host="app.example", port=port) for port in range(1, 31)]
            checks.follow("a", [(target, settings, ()) for target in targets])
            await async_wait_until(lambda: dialer.probed.total() >= 400, "many probes")
            checks.follow("a", [])
        self.assertEqual(len(logs.records), MOST_OF_GROUP)
        self.assertEqual({record.tenant for record in logs.records}, {"shop"})

    @on_both_loops
    async def test_what_never_answers_counts_as_a_failure(self) -> None:
        leaks = Leaks()
        settings = TargetHealth(interval=0.005, timeout=0.01, down_after=2)
        checks = HealthChecks(ScriptedDialer(None))
        with recorded_logs() as logs:
            checks.follow("a", [(APP, settings, ())])
            await async_wait_until(lambda: not checks.is_up(APP, settings, ()), "down")
        self.assertEqual(logs.text(), "target down: no answer in time")
        checks.follow("a", [])
        await leaks.check()

    @on_both_loops
    async def test_what_several_want_is_checked_once_until_nobody_does(self) -> None:
        leaks = Leaks()
        dialer = ScriptedDialer(None)
        checks = HealthChecks(dialer)
        other = TargetHealth(interval=0.005, timeout=6)
        checks.follow("a", [(APP, OFTEN, ()), (APP, OFTEN, ())])
        checker = checks._checkers[APP, OFTEN, ()]
        checks.follow("b", [(APP, OFTEN, ())])
        self.assertIs(checks._checkers[APP, OFTEN, ()], checker)
        await async_wait_until(lambda: dialer.probed[APP], "a probe")
        checks.follow("b", [(APP, OFTEN, ()), (APP, other, ())])
        self.assertEqual(len(checks.statuses()), 2)
        await async_wait_until(lambda: dialer.probed[APP] == 2, "a probe with the other settings")
        checks.follow("a", [])
        self.assertEqual(([], 2), (checks.statuses("a"), len(checks.statuses("b"))))
        await asyncio.sleep(0)
        self.assertEqual(dialer.under_way, 2)
        checks.follow("b", [])
        self.assertEqual(checks.statuses(), [])
        await async_wait_until(lambda: not dialer.under_way, "the probes' end")
        checks.follow("nobody", [])
        await leaks.check()

    @on_both_loops
    async def test_an_edit_leaves_what_is_known_of_the_others(self) -> None:
        checks = HealthChecks(ScriptedDialer(False))
        new = Target("tcp", host="new.example", port=80)
        with recorded_logs():
            checks.follow("a", [(APP, OFTEN, ())])
            await async_wait_until(lambda: not checks.is_up(APP, OFTEN, ()), "down")
            checks.follow("a", [(APP, OFTEN, ()), (new, TargetHealth(interval=1000), ())])
            self.assertFalse(checks.is_up(APP, OFTEN))
        checks.follow("a", [])

    @on_both_loops
    async def test_few_are_under_way_at_a_time(self) -> None:
        dialer = ScriptedDialer(None)
        with mock.patch("relay.targets.health.AT_ONCE", 3):
            checks = HealthChecks(dialer)
        settings = TargetHealth(interval=0.001, timeout=0.01)
        with recorded_logs():
            checks.follow("a", [(Target("tcp", host="a.example", port=port), settings, ()) for port in range(1, 30)])
            await async_wait_until(lambda: len(dialer.probed) == 29, "everybody's turn")
        self.assertEqual(dialer.most_under_way, 3)
        checks.follow("a", [])

    @on_both_loops
    async def test_many_targets_are_checked_less_often(self) -> None:
        checks = HealthChecks(ScriptedDialer(True))
        settings = TargetHealth(interval=1)
        many = [(Target("tcp", host="a.example", port=port), settings, ()) for port in range(1, 1001)]
        checks.follow("a", many[:100])
        self.assertEqual(checks._pause(1), 1)
        checks.follow("a", many)
        self.assertEqual((checks._pause(1), checks._pause(60)), (1000 / health.A_SECOND, 60))
        checks.follow("a", [])
        self.assertEqual(checks._pause(1), 1)

    @on_both_loops
    async def test_a_check_that_breaks_is_told_and_goes_on(self) -> None:
        class Broken(ScriptedDialer):
            async def probe(self, target: Target, timeout: float, policies: Sequence[TargetPolicy] = ()) -> None:
                self.probed[target] += 1
                raise RuntimeError("a bug")

        dialer = Broken()
        checks = HealthChecks(dialer)
        with recorded_logs() as logs:
            checks.follow("a", [(APP, OFTEN, ())])
            await async_wait_until(lambda: dialer.probed[APP] > 2, "more checks")
        self.assertIn("a target's check broke", logs.text())
        checks.follow("a", [])

    @on_both_loops
    async def test_real_targets(self) -> None:
        leaks = Leaks()
        checks = HealthChecks(Dialer())
        with recorded_logs() as logs:
            async with EchoTarget() as target:
                real = Target("tcp", host=target.host, port=target.port)
                checks.follow("a", [(real, OFTEN, ())])
                await async_wait_until(lambda: target.accepted > 5, "checks")
                self.assertTrue(checks.is_up(real, OFTEN))
                await target.stop()
                await async_wait_until(lambda: not checks.is_up(real, OFTEN, ()), "down")
                await target.start()
                await async_wait_until(lambda: checks.is_up(real, OFTEN, ()), "up")
                checks.follow("a", [])
        self.assertEqual(logs.text(), "target down: Connection refused\ntarget up")
        await leaks.check()

    def test_unchecked_targets_are_up(self) -> None:
        async def main() -> Any:
            return HealthChecks(Dialer()).is_up(APP, OFTEN)

        self.assertTrue(asyncio.run(main()))
