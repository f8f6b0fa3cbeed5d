"""Tests of the development node."""

import logging

# Every refused token is worth a line when one develops against the node; here hundreds are refused on purpose.
logging.getLogger("relay.devnode").setLevel(logging.WARNING)
