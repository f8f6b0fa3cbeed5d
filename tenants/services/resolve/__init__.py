"""The tester: who would serve a connection."""
