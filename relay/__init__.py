"""The relay: carries connections between Nexus nodes and local services. Usable as a library, without Django.

The names of `relay.api` are this package's own: ``from relay import Relay``. They are loaded when one is first used, so
that who needs only a part, as the registry needs `relay.config`, does not wait for the transport and its libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if name == "__all__" or not name.startswith("_"):
            api = import_module("relay.api")
            if name == "__all__" or name in api.__all__:
                return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
