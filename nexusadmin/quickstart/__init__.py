"""`make run`: everything on one machine, for development and for a first look."""
