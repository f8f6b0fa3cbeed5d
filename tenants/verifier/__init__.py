"""The registry as verifier: nodes ask it whether a token is good (PROTOCOL.md, "A node can ask a verifier")."""
