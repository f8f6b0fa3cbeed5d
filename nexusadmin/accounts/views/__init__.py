"""The pages around log-in, one a file."""
