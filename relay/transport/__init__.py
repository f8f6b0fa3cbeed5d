"""Bytes to and from a node: WebSocket frames and the connection under them."""
