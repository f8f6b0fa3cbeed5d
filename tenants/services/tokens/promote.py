"""Tidies credentials whose next secret has taken its turn: it becomes the stored one.

Not before a node has taken it: until then, dropping it is the way back to the stored one. Nothing else depends on when:
the relays go by the clock (`Credential.next_serves`), and for them this changes nothing.
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from tenants.changes import generations
from tenants.changes.actor import SYSTEM, acting
from tenants.models.credential import Credential
from tenants.models.credential_use import CredentialUse


def take_turns() -> str:
    """Put every next secret that a node has taken since its instant in place of the stored one; say how many.

    One whose stored secret has ended does not wait for a node: there is nothing to go back to.
    """
    now = timezone.now()
    uses = CredentialUse.objects.filter(backend=OuterRef("backend"), fingerprint=OuterRef("next_fingerprint"))
    waiting = Credential.objects.filter(next_at__lte=now)
    due = list(waiting.filter(Exists(uses) | Q(claims_expires_at__lte=now)).order_by("pk").values_list("pk", flat=True))
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
