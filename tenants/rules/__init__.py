"""Checks of rows against other rows and against the tenant's rights."""
