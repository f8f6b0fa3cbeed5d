"""What is done with accounts, one verb a file."""
