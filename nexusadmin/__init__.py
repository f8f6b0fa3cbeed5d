"""The Django project around the registry: settings, addresses, processes."""
