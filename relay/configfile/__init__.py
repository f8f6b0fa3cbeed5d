"""Configuration files of both client generations (docs/protocol.md, "Configuration file"): read, check, write."""

from relay.configfile.convert import to_relay_config
from relay.configfile.document import BackendDocument, ConfigDocument, PortMappingDocument
from relay.configfile.problems import ConfigFileError, Problem
from relay.configfile.reader import MAX_BYTES, parse_config, read_config_file
from relay.configfile.writer import dump

__all__ = [
    "MAX_BYTES",
    "BackendDocument",
    "ConfigDocument",
    "ConfigFileError",
    "PortMappingDocument",
    "Problem",
    "dump",
    "parse_config",
    "read_config_file",
    "to_relay_config",
]
