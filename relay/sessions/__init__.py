"""Sessions with nodes, their streams, and what keeps them up."""
