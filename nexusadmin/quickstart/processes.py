"""Starts the processes of a Procfile together and stops them together."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Message, Printer

from nexusadmin.quickstart.ports import Port

PROCFILE = "deploy/Procfile"
_STOPPED_BY_SIGNAL = (128 + signal.SIGINT, 128 + signal.SIGTERM)


class _StartingPrinter(Printer):
    """Prints the processes' lines, and tells when all processes have been started.

    Honcho forks one process for each; a thread must not begin before it has forked the last.
    """

    def __init__(self, output: Any, expected: int, started: Callable[[], None]) -> None:
        super().__init__(output)
        self._expected = expected
        self._started = started
        self._seen = 0

    def write(self, message: Message) -> None:
        super().write(message)
        if message.type == "line" and message.name == "system" and " started (pid=" in str(message.data):
            self._seen += 1
            if self._seen == self._expected:
                self._started()


def run_processes(ports: list[Port], started: Callable[[], None]) -> int:
    """Run the Procfile's processes until Ctrl-C, SIGTERM, or until one of them ends.

    Args:
        ports: given to them in their environment, by the name of the setting.
        started: called once when all have been started.

    Returns:
        0 after a signal, else the exit code of the process that ended first, at least 1.
    """
    commands = parse_procfile((settings.BASE_DIR / PROCFILE).read_text(encoding="utf-8")).processes
    if not settings.REDIS_URL:
        commands.pop("worker", None)  # Celery then runs its tasks in place
    environment = {
        **os.environ,
        **{port.setting: str(port.number) for port in ports},
        "DJANGO_SETTINGS_MODULE": "nexusadmin.settings",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "STATE_DIR": str(settings.STATE_DIR),
    }
    manager = Manager(_StartingPrinter(sys.stdout, len(commands), started))
    for name, command in commands.items():
        manager.add_process(name, command, env=environment, cwd=str(settings.BASE_DIR))
    with own_terminal():
        manager.loop()
    if manager.returncode in _STOPPED_BY_SIGNAL:
        return 0
    return int(manager.returncode or 0) or 1


@contextmanager
def own_terminal() -> Iterator[None]:
    """Take Ctrl-C alone while this runs below `make`, which would end itself by it and call the clean stop an error."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        yield  # no terminal, no Ctrl-C
        return
    before = os.getpgrp()
    try:
        take = before != os.getpid() and os.tcgetpgrp(terminal) == before
        if take:
            # Changing the terminal's foreground group from another group raises SIGTTOU. Ctrl-Z would stop this group
            # and leave make's, which the shell waits for.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
            os.setpgid(0, 0)
            os.tcsetpgrp(terminal, os.getpgrp())
        try:
            yield
        finally:
            if take:
                os.tcsetpgrp(terminal, before)
    finally:
        os.close(terminal)
