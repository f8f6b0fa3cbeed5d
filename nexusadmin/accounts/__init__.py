"""Pages around log-in that are no nouns of the registry: invitations, second factor, sessions."""
