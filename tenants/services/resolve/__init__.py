"""The route tester: which backend would serve a user's connection, and why the others would not."""
