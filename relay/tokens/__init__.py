"""Tokens: what is in one, and where a session gets its own."""
