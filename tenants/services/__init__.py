"""Verbs of the registry: what models, admin and commands call."""
