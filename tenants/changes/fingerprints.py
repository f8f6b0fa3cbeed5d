"""Fingerprints that tell secrets apart without saying anything about them."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

LENGTH = 16  # hexadecimal digits


def fingerprint(secret: str) -> str:
    """Return a short digest of a secret.

    It is keyed (HMAC-SHA256 with a key derived from settings.SECRET_KEY), so that readers of the admin or
    of a dump of the database cannot guess a weak secret from it. Equal secrets have equal fingerprints; a new
    SECRET_KEY changes all of them.
    """
    return salted_hmac("tenants.credential.fingerprint", secret, algorithm="sha256").hexdigest()[:LENGTH]
