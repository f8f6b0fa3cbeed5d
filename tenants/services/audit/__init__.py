"""The audit trail: notes, presentation and reverts."""
