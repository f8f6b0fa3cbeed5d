"""The web side: addresses, and what stands in front of Django."""
