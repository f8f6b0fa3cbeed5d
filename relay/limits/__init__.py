"""What backends, tenants and a process may use."""
