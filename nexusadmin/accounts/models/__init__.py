"""Models of accounts beside Django's users, one noun a file."""

from nexusadmin.accounts.models.login_session import LoginSession
from nexusadmin.accounts.models.recovery_codes import RecoveryCodes
from nexusadmin.accounts.models.totp_device import TotpDevice

__all__ = ["LoginSession", "RecoveryCodes", "TotpDevice"]
