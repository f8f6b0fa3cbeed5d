"""Signals of the registry's changes."""

from django.dispatch import Signal

generation_committed = Signal()
"""Sent once a transaction after its commit, with ``generation``: the newest number that it made visible."""
