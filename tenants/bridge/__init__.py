"""The one bridge between the registry and the relay: rows become a frozen `relay.config.RelayConfig`."""
