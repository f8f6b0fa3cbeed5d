"""The isolation walk: what it asks, of which rows, and how two worlds are compared."""
