"""Rules for django-axes, which counts failed log-ins: what is counted together, and how many are too many."""

from __future__ import annotations

import ipaddress
import unicodedata
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from tenants.services.audit import journal


class LoginThrottle(AxesDatabaseHandler):
    """Counts by user name and address, and by address alone, each with a limit of its own."""

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """Return the failures that count against the limit of a name; those of an address are brought to its scale."""
        by_name, by_address = (
            sum(rows.values_list("failures_since_start", flat=True))
            for rows in self.get_user_attempts(request, credentials)
        )
        if request.axes_ip_address is None:  # a client of a Unix socket whose proxy does not say who it is
            return by_name
        return max(by_name, by_address * settings.LOGIN_FAILURES // settings.LOGIN_FAILURES_OF_ADDRESS)

    def reset_user_attempts(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """Forget the failures of the name that has just logged in, not its address': anyone has a name to log in as."""
        by_name, _ = self.filter_user_attempts(request, credentials)
        return int(by_name.delete()[0])


def counted_name(request: HttpRequest | None, credentials: dict[str, Any] | None) -> str:
    """Return what failures are counted under: not the name itself, which may be a password in the wrong field."""
    field = get_user_model().USERNAME_FIELD
    name = (credentials or {}).get(field) or (request.POST.get(field) if request is not None else "") or ""
    return name_key(str(name))


def name_key(name: str) -> str:
    """Return the same for all ways to write a user name.

    What is longer than a user name can be stays as it is, as in the log-in form: the time of normalising grows with
    the square of the length, and strangers may post megabytes.
    """
    field: Any = get_user_model()._meta.get_field(get_user_model().USERNAME_FIELD)
    too_long = len(name) > field.max_length
    normal = name if too_long else unicodedata.normalize("NFKC", name).strip().casefold()
    return salted_hmac("accounts.login_throttle", normal, algorithm="sha256").hexdigest()


def counted_address(request: HttpRequest) -> str | None:
    """Return what an address is counted under: of an IPv6 address its /64, which is what one client has.

    The address is the connection's; behind a proxy, uvicorn has put there what one of the proxies in
    FORWARDED_ALLOW_IPS says.
    """
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


def may_try(request: HttpRequest, user: Any) -> bool:
    """Tell whether another code or password of this user may be tried from this address."""
    return bool(AxesProxyHandler.is_allowed(request, {get_user_model().USERNAME_FIELD: user.get_username()}))


def failed(request: HttpRequest, user: Any) -> None:
    """Count a wrong code as a failed log-in."""
    credentials = {get_user_model().USERNAME_FIELD: user.get_username()}
    user_login_failed.send(sender=__name__, credentials=credentials, request=request)


def unlock(user: Any) -> None:
    """Forget the failed log-ins under the user's name."""
    if AccessAttempt.objects.filter(username=name_key(user.get_username())).delete()[0]:
        journal.record("log-in unlocked", user)
