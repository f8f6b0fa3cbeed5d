"""Configuration files into the registry and out of it."""
