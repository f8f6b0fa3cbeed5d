"""The reader against what the reference makes of files as people write them (tests/data/vectors/config_files.json)."""

import json
from pathlib import Path

from django.test import SimpleTestCase

from relay.configfile import ConfigFileError
from relay.configfile.reader import parse_config

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "vectors" / "config_files.json").read_text())

REFUSED_HERE = {
    "host_long": "no DNS name has a label of more than 63 characters, so no user can ask for it",
    "map_portbig": "the only mapped port is none: no stream has a route",
    "target_noport": "a target without a port cannot be dialled",
    "target_zero": "port 0 cannot be dialled",
}
"""Files that the reference accepts and that could not work at any node (docs/protocol.md, "Configuration file")."""

ACCEPTED_HERE = {
    "secret_file_missing": "read when a token is due, on the relay's machine, which need not be the importing one",
}
"""Files that the reference refuses and this reader accepts."""


def accepts(text: str) -> bool:
    """Say whether the reader takes a file."""
    try:
        parse_config(text.encode(), "config.yaml")
    except ConfigFileError:
        return False
    return True


class VectorTests(SimpleTestCase):
    def test_the_reader_agrees_with_the_reference_but_for_known_files(self) -> None:
        ours = {case["name"]: accepts(case["file"]) for case in VECTORS["cases"]}
        reference = {case["name"]: case["reference"] == "accepts" for case in VECTORS["cases"]}
        self.assertEqual(len(ours), len(VECTORS["cases"]))
        self.assertEqual({name for name in ours if reference[name] and not ours[name]}, REFUSED_HERE.keys())
        self.assertEqual({name for name in ours if ours[name] and not reference[name]}, ACCEPTED_HERE.keys())
