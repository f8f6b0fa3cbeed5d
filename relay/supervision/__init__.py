"""What runs, compared with the newest configuration."""
