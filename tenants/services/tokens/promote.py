"""Tidies credentials whose next secret has taken its turn: it becomes the stored one.

Nothing depends on when: the relays go by the clock (`Credential.next_serves`), and for them this changes nothing.
"""

from __future__ import annotations

from django.utils import timezone

from tenants.changes import generations
from tenants.changes.actor import SYSTEM, acting
from tenants.models.credential import Credential


def take_turns() -> str:
    """Put every next secret whose instant has come in place of the stored one; say how many."""
    due = list(Credential.objects.filter(next_at__lte=timezone.now()).order_by("pk").values_list("pk", flat=True))
    with acting(name="rotation", origin=SYSTEM):
        done = sum(_take_turn(key) for key in due)
    return f"{done} credentials took their turn" if done else ""


def _take_turn(key: int) -> bool:
    with generations.batch():
        # Read under the lock: somebody may have planned otherwise meanwhile.
        credential = Credential.objects.filter(pk=key).first()
        if credential is None or not credential.next_serves():
            return False
        credential.take_next()
        credential.save()
        return True
