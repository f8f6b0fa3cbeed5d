import unittest

from django.test import SimpleTestCase, TestCase

from tests.support.runner.nested import NestedRunTestCase
from tests.support.runner.runner import CountingRunner, slow_ones_first

SAMPLE = """
    import unittest
    from django.test import SimpleTestCase

    class Passing(SimpleTestCase):
        def test_one(self): pass
        def test_two(self): pass
        def test_subtests(self):
            for n in range(5):
                with self.subTest(n=n): pass
        @unittest.expectedFailure
        def test_known(self): self.fail()

    class Failing(SimpleTestCase):
        def test_failure(self): self.fail()
        def test_error(self): raise RuntimeError
        def test_subtests(self):
            for n in range(5):
                with self.subTest(n=n): self.assertEqual(n % 2, 0)
        @unittest.expectedFailure
        def test_cured(self): pass

    class Skipping(SimpleTestCase):
        @unittest.skip("why")
        def test_skipped(self): pass
        def test_skips_itself(self): self.skipTest("why")

    @unittest.skip("the whole class")
    class SkippedClass(SimpleTestCase):
        def test_one(self): pass
        def test_two(self): pass

    class SkipsInSetUp(SimpleTestCase):
        @classmethod
        def setUpClass(cls): raise unittest.SkipTest("no server")
        def test_one(self): pass

    class FailsInSetUp(SimpleTestCase):
        @classmethod
        def setUpClass(cls): raise RuntimeError("no server")
        def test_one(self): pass
"""

DATABASE = """
    from django.test import TestCase

    class Fine(TestCase):
        def test_database(self):
            from django.contrib.auth import get_user_model
            self.assertEqual(get_user_model().objects.count(), 0)
"""


class RunnerTests(NestedRunTestCase):
    def setUp(self):
        super().setUp()
        self.write(SAMPLE)
        self.write(DATABASE, "test_database.py")

    def sample(self, name):
        return [str(self.directory), "-k", f"{name}."]

    def test_passing(self):
        code, last, output = self.run_tests(*self.sample("Passing"))
        self.assertEqual((code, last), (0, "4 passed, 0 failed, 0 skipped"), output)

    def test_failing(self):
        code, last, output = self.run_tests(*self.sample("Failing"))
        self.assertEqual((code, last), (1, "0 passed, 4 failed, 0 skipped"), output)

    def test_skipping(self):
        code, last, output = self.run_tests(*self.sample("Skipping"))
        self.assertEqual((code, last), (0, "0 passed, 0 failed, 2 skipped"), output)

    def test_skipped_class(self):
        code, last, output = self.run_tests(*self.sample("SkippedClass"))
        self.assertEqual((code, last), (0, "0 passed, 0 failed, 2 skipped"), output)

    def test_set_up_of_classes(self):
        code, last, output = self.run_tests(*self.sample("SetUp"), "-k", "Passing.test_one")
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 1 skipped"), output)

    def test_database_teardown_comes_before_the_last_line(self):
        code, last, output = self.run_tests(str(self.directory), "-v", "2", pattern="test_database.py")
        self.assertEqual((code, last), (0, "1 passed, 0 failed, 0 skipped"), output)
        self.assertIn("Destroying test database", output)

    def test_nothing_found(self):
        code, last, output = self.run_tests(str(self.directory), pattern="no_such_*.py")
        self.assertEqual((code, last), (1, "0 passed, 0 failed, 0 skipped"), output)
        self.assertIn("No tests were found", output)

    def test_import_error(self):
        (self.directory / "test_broken.py").write_text("import no_such_module\n")
        code, last, output = self.run_tests(str(self.directory), pattern="test_broken.py")
        self.assertEqual((code, last), (1, "0 passed, 1 failed, 0 skipped"), output)

    def test_database_that_can_not_be_made(self):
        url = f"postgres://nobody@//{self.directory}/nothing"
        code, last, output = self.run_tests(str(self.directory), pattern="test_database.py", DATABASE_URL=url)
        self.assertEqual((code, last), (1, "0 passed, 1 failed, 0 skipped"), output)
        self.assertIn("OperationalError", output)


class OrderTests(SimpleTestCase):
    def test_slow_ones_come_first_among_their_kind(self):
        def suite(kind, name, number, *tags):
            body = {f"test_{n}": lambda self: None for n in range(number)} | ({"tags": set(tags)} if tags else {})
            tested = type(name, (kind,), body)
            return unittest.TestSuite([tested(f"test_{n}") for n in range(number)])

        suites = [
            suite(unittest.TestCase, "plain", 9),
            suite(unittest.TestCase, "plain and slow", 1, "slow"),
            suite(SimpleTestCase, "small", 1, "other"),
            suite(SimpleTestCase, "large", 5),
            suite(TestCase, "last of its kind", 1),
        ]
        ordered = slow_ones_first(suites, CountingRunner.reorder_by)
        names = [type(next(iter(suite))).__name__ for suite in ordered]
        self.assertEqual(names, ["last of its kind", "large", "small", "plain and slow", "plain"])


class InSeveralProcessesTests(NestedRunTestCase):
    """The counts and the last line do not depend on how many processes run the tests."""

    def test_all_outcomes(self):
        self.write(SAMPLE)
        for processes in ("1", "2"):
            with self.subTest(processes=processes):
                code, last, output = self.run_tests(str(self.directory), "--parallel", processes)
                self.assertEqual((code, last), (1, "4 passed, 5 failed, 5 skipped"), output)
                self.assertIn("ERROR: setUpClass (test_sample.FailsInSetUp)", output)
                self.assertIn("FAIL: test_subtests (test_sample.Failing.test_subtests) (n=3)", output)
                self.assertIn("RuntimeError: no server", output)
                self.assertIn("The slowest tests:", output.splitlines()[-12:])
