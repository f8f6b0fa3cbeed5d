"""The web process: addresses, and the ASGI layers in front of Django."""
