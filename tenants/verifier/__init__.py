"""The registry as verifier: nodes ask it whether a token is good (docs/protocol.md, "A node can ask a verifier")."""
