"""What sessions and targets share: looked-up names, and connections to the first of several addresses."""
