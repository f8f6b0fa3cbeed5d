"""A Nexus node for development and tests; never for production."""

from relay.devnode.faults import GARBAGE, Faults
from relay.devnode.node import DevNode, PublicPort
from relay.devnode.options import NodeDialect, NodeOptions
from relay.devnode.tokens import mint_token

__all__ = ["GARBAGE", "DevNode", "Faults", "NodeDialect", "NodeOptions", "PublicPort", "mint_token"]
