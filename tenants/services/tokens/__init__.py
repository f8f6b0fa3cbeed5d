"""Tokens of the registry: issue, rotate, revoke, and notices of their end."""
