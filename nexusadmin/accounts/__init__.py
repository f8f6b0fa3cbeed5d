"""Accounts: log-in sessions, the second factor and recovery codes, with their models, services, admin and pages."""
