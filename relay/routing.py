"""Placeholder until the first commit of the routing module."""
from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class RouteTable:
    pass
