"""Signing of the relay's own tokens (docs/protocol.md, "Claims")."""

from __future__ import annotations

import time
from typing import Final

from relay.config import AttestationOptions, Claims
from relay.config.addresses import is_status_address
from relay.protocol.events import Stage
from relay.tokens.claims import TokenClaims
from relay.tokens.jwt import sign

DEFAULT_TTL: Final = 30
"""Seconds that a token of our own is valid where the backend does not say."""


def mint(
    name: str,
    claims: Claims,
    options: AttestationOptions,
    secret: str,
    *,
    stage: Stage,
    nonce: str = "",
    key_id: str = "",
    token_id: str = "",
) -> str:
    """Return an HS256 token.

    Args:
        name: the token's subject.
        nonce: the challenge's; empty at handshake.
        key_id: for the header, ``kid``; empty for none.
        token_id: ``jti``; empty for none.

    Raises:
        ValueError: the secret cannot sign.
    """
    now = int(time.time())
    status = options.authorizer_status_uri  # a node refuses the whole session for one that is not https://
    told = TokenClaims(
        claims,
        expires_at=now + (options.token_ttl or DEFAULT_TTL),
        issued_at=now,
        subject=name,
        token_id=token_id or None,
        session_nonce=nonce or None,
        handshake_max_age=(options.handshake_max_age if stage is Stage.HANDSHAKE else 0) or None,
        reauth_interval=options.reauth_interval or None,
        reauth_grace=options.reauth_grace or None,
        maintenance_grace_cap=options.maintenance_grace_cap or None,
        authorizer_status_uri=status if is_status_address(status) else None,
        policy_version=options.policy_version or None,
    )
    return sign(told.to_json(), secret, key_id)
