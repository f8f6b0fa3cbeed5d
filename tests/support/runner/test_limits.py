"""Tests of tests.support.runner.limits."""

from django.test import SimpleTestCase

from tests.support.runner.limits import DEFAULT, limit_of, time_limit
from tests.support.runner.nested import NestedRunTestCase

HANGING = """
    import asyncio, threading, time, unittest
    from unittest import IsolatedAsyncioTestCase, mock
    from django.test import SimpleTestCase
    from tests.support.relays import on_uvloop
    from tests.support.runner import limits, time_limit

    @time_limit(0.2)
    class Hanging(SimpleTestCase):
        def test_a_lock(self): threading.Event().wait()
        def test_quick(self): pass
        @on_uvloop
        async def test_a_loop(self): await the_place_where_it_waits()

    async def the_place_where_it_waits():
        await asyncio.get_running_loop().create_future()

    @time_limit(0.2)
    class HangingCoroutine(IsolatedAsyncioTestCase):
        async def test_a_coroutine(self): await the_place_where_it_waits()
        @time_limit(60)
        async def test_a_longer_one(self): await asyncio.to_thread(threading.Event().wait, 0.5)

    class HangingSetUp(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            with mock.patch.object(limits, "DEFAULT", 0.2), limits.of_fixture(): threading.Event().wait()
        def test_1(self): pass
"""


class LimitTests(SimpleTestCase):
    def test_a_method_says_it_then_a_class_then_the_default(self) -> None:
        @time_limit(2)
        class Sample(SimpleTestCase):
            def test_by_class(self) -> None: ...

            @time_limit(3)
            def test_by_method(self) -> None: ...

        self.assertEqual(limit_of(Sample("test_by_class")), 2)
        self.assertEqual(limit_of(Sample("test_by_method")), 3)
        self.assertEqual(limit_of(self), DEFAULT)


class HangingTests(NestedRunTestCase):
    def test_what_hangs_fails_and_the_run_goes_on(self) -> None:
        self.write(HANGING)
        for processes in ("1", "2"):
            with self.subTest(processes=processes):
                code, last, output = self.run_tests(str(self.directory), "--parallel", processes)
                self.assertEqual((code, last), (1, "2 passed, 4 failed, 0 skipped"), output)
                self.assertIn("still running after 0.2 s", output)
                self.assertRegex(output, r"in test_a_lock\n")
                self.assertGreaterEqual(output.count("in the_place_where_it_waits"), 2, "on both loops")
                self.assertIn("ERROR: setUpClass (test_sample.HangingSetUp)", output)

    def test_what_cannot_be_interrupted_is_ended(self) -> None:
        self.write("""
            import signal, threading
            from unittest import mock
            from django.test import SimpleTestCase
            from tests.support.runner import parallel, time_limit

            parallel.GRACE = 0.2

            class Stubborn(SimpleTestCase):
                @time_limit(0.2)
                def test_1(self):
                    while True:
                        try: threading.Event().wait()
                        except SystemExit: pass
                def test_2(self): pass

            class Other(SimpleTestCase):
                def test_1(self): pass
        """)
        code, last, output = self.run_tests(str(self.directory), "--parallel", "2")
        self.assertEqual((code, last), (1, "2 passed, 1 failed, 0 skipped"), output)
        self.assertIn("SIGABRT", output)
        self.assertRegex(output, r'test_sample\.py", line \d+ in test_1')
