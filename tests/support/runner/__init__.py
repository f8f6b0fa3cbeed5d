"""Django's test runner with several processes, time-outs, the slowest tests and a last line for machines."""

from tests.support.runner.limits import time_limit
from tests.support.runner.runner import CountingRunner

__all__ = ["CountingRunner", "time_limit"]
