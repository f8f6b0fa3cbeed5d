"""Tests of tests.support.runner.parallel: what the processes that run the tests may do to it."""

from tests.support.runner.nested import NestedRunTestCase


class DyingProcessTests(NestedRunTestCase):
    def run_in_two(self):
        return self.run_tests(str(self.directory), "--parallel", "2")

    def test_one_dies_in_a_test(self):
        self.write("""
            import os, signal
            from django.test import SimpleTestCase

            class Dying(SimpleTestCase):
                def test_1(self): pass
                def test_2(self): os.kill(os.getpid(), signal.SIGKILL)
                def test_3(self): pass
                def test_4(self): os._exit(3)

            class Other(SimpleTestCase):
                def test_1(self): pass
        """)
        code, last, output = self.run_in_two()
        self.assertEqual((code, last), (1, "3 passed, 2 failed, 0 skipped"), output)
        self.assertIn("ERROR: test_2 (test_sample.Dying.test_2)", output)
        self.assertIn("the process that ran this test ended: SIGKILL", output)
        self.assertIn("the process that ran this test ended: exit code 3", output)

    def test_one_crashes_and_says_where(self):
        self.write("""
            import faulthandler
            from django.test import SimpleTestCase

            class Crashing(SimpleTestCase):
                def test_1(self): faulthandler._sigsegv()

            class Other(SimpleTestCase):
                def test_1(self): pass
        """)
        code, last, output = self.run_in_two()
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 0 skipped"), output)
        self.assertIn("SIGSEGV", output)
        self.assertRegex(output, r'test_sample\.py", line \d+ in test_1')

    def test_one_dies_in_a_set_up(self):
        self.write("""
            import os
            from django.test import SimpleTestCase

            class Dying(SimpleTestCase):
                @classmethod
                def setUpClass(cls): os._exit(3)
                def test_1(self): pass
                def test_2(self): pass

            class DyingAtLast(SimpleTestCase):
                @classmethod
                def tearDownClass(cls): os._exit(3)
                def test_1(self): pass
        """)
        code, last, output = self.run_in_two()
        self.assertEqual((code, last), (1, "1 passed, 3 failed, 0 skipped"), output)

    def test_an_exception_that_cannot_be_pickled(self):
        self.write("""
            import threading
            from unittest import IsolatedAsyncioTestCase
            from django.test import SimpleTestCase

            class Odd(Exception):
                def __init__(self, first, second):
                    super().__init__(threading.Lock(), lambda: None)
                def __str__(self): return "an odd one"

            class Raising(SimpleTestCase):
                def test_1(self): raise Odd(1, 2)
                def test_2(self):
                    with self.subTest(lock=threading.Lock()): raise Odd(1, 2)

            class Coroutines(IsolatedAsyncioTestCase):
                async def test_1(self): raise Odd(1, 2)
                async def test_2(self): pass
        """)
        code, last, output = self.run_in_two()
        self.assertEqual((code, last), (1, "1 passed, 3 failed, 0 skipped"), output)
        self.assertIn("an odd one", output)

    def test_each_has_databases_ports_and_directories_of_its_own(self):
        self.write("""
            import os
            from pathlib import Path
            from django.conf import settings
            from django.contrib.auth import get_user_model
            from django.contrib.contenttypes.models import ContentType
            from django.test import TransactionTestCase
            from tests.support.databases import database_url
            from tests.support.ports import free_port

            class First(TransactionTestCase):
                def test_1(self):
                    self.assertTrue(ContentType.objects.exists(), "the clone holds what was in the write-ahead log")
                    get_user_model().objects.create(username="one")
                    (Path(os.environ["PLACE"]) / type(self).__name__).write_text(
                        f"{database_url()} {free_port()} {settings.STATE_DIR} {os.environ['STATE_DIR']}")

            class Second(First):
                pass
        """)
        code, last, output = self.run_tests(str(self.directory), "--parallel", "2", PLACE=str(self.directory))
        self.assertEqual((code, last), (0, "2 passed, 0 failed, 0 skipped"), output)
        first, second = ((self.directory / name).read_text().split() for name in ("First", "Second"))
        self.assertEqual(first[2], first[3])
        self.assertFalse(set(first) & set(second))
