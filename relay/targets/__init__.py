"""Bytes to and from a target: names, addresses, dials, health and the PROXY protocol."""
