import asyncio

from django.test import SimpleTestCase

from relay.limits.pacing import LEAST_BURST, Pacer, Pacers
from tests.support.relays import on_both_loops


class PacerTests(SimpleTestCase):
    @on_both_loops
    async def test_streams_take_turns(self) -> None:
        pacer, paid, done = Pacer(), [0, 0, 0, 0], asyncio.Event()
        pacer.change(200_000_000)

        def again(number: int) -> None:
            # One asks ten times as often as the others could: it gets its turn, and no more.
            paid[number] += 1
            if sum(paid) >= 400:
                done.set()
            elif pacer.pay(32768, lambda: again(number)):
                asyncio.get_running_loop().call_soon(again, number)

        for number in range(4):
            again(number)
        await asyncio.wait_for(done.wait(), 20)
        self.assertLessEqual(max(paid) - min(paid), 4, paid)
        pacer.change(0)

    @on_both_loops
    async def test_lifting_a_limit_lets_everybody_go(self) -> None:
        pacer, paid = Pacer(), []
        pacer.change(1)
        self.assertTrue(pacer.pay(2 * LEAST_BURST, lambda: None))
        for number in range(3):
            self.assertFalse(pacer.pay(10, lambda number=number: paid.append(number)))
        self.assertFalse(pacer.pay_now(1))
        pacer.change(0)
        self.assertEqual(paid, [0, 1, 2])
        self.assertTrue(pacer.pay_now(1))

    @on_both_loops
    async def test_all_of_several_have_to_be_paid(self) -> None:
        one, two, paid = Pacer(), Pacer(), []
        one.change(1)
        two.change(1)
        both = Pacers([one, two])
        self.assertTrue(both.pay(2 * LEAST_BURST, lambda: paid.append("at once")))
        self.assertFalse(both.pay(10, lambda: paid.append("later")))
        one.change(0)
        self.assertEqual(paid, [])
        two.change(0)
        self.assertEqual(paid, ["later"])
