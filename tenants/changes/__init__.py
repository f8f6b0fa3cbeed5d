"""How every write to the registry is locked, numbered and recorded."""
