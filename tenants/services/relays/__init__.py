"""What relays report, and what was used."""
