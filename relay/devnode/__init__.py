"""A Nexus node for development and tests; never for production."""

from relay.devnode.faults import GARBAGE, Faults
from relay.devnode.node import DevNode, PublicPort
from relay.devnode.options import Dialect, NodeOptions
from relay.devnode.tokens import mint_token

__all__ = ["GARBAGE", "DevNode", "Dialect", "Faults", "NodeOptions", "PublicPort", "mint_token"]
