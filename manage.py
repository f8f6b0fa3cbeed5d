#!/usr/bin/env python
"""Django's command line for this project: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    """Run the command named by the arguments; a wrong setting ends in one message and exit code 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from tenants.changes.actor import COMMAND, account, acting

    try:
        with acting(name=account(), origin=COMMAND):
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Wrong settings: {error}")


if __name__ == "__main__":
    main()
