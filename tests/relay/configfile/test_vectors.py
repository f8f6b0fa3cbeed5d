"""The reader against what the reference makes of files as people write them (tests/data/vectors/config_files.json)."""

import json
from pathlib import Path

from django.test import SimpleTestCase

from relay.configfile import ConfigFileError
from relay.configfile.reader import parse_config

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "vectors" / "config_files.json").read_text())

REFUSED_HERE = {
    "addr_https", "dup_tcp_ports", "flow_neg", "health_off_zero", "health_zero", "host_dashes", "host_ip", "host_long",
    "map_host_dup_norm", "map_port_claim_key", "map_portbig", "map_wild_star", "name_dup", "octal_port",
    "target_noport", "target_zero", "two_docs", "two_sources", "under_port",
}  # fmt: skip
"""Files that the reference accepts and this reader refuses."""

ACCEPTED_HERE = {
    "secret_file_missing",  # read when a token is due, on the relay's machine, which need not be the importing one
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
        self.assertEqual({name for name in ours if reference[name] and not ours[name]}, REFUSED_HERE)
        self.assertEqual({name for name in ours if ours[name] and not reference[name]}, ACCEPTED_HERE)
