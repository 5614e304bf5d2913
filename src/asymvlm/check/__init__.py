"""The format of a scorer directory: one schema, and the checks that go by it.

`schema` is data; `asymvlm check`, `load_scorer`, exports and docs/checkpoint-format.md all go by
it. Checks need json, numpy and safetensors alone; torch is loaded only for kinds of scorers that
the schema does not list. Imports cli, errors and scorers.
"""

from .command import main
from .config_file import check_config
from .directory import check_directory, is_scorer
from .rules import one_line, reason
from .schema import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    FORMAT,
    FORMAT_VERSION,
    OWN_ENTRIES,
    WEIGHTS_FILE,
)
from .tensor_file import check_shapes

__all__ = [
    "ADAPTER_CONFIG_FILE", "ADAPTER_FOLDER", "ADAPTER_WEIGHTS_FILE", "CARD_FILE", "CONFIG_FILE",
    "FORMAT", "FORMAT_VERSION", "OWN_ENTRIES", "WEIGHTS_FILE", "check_config", "check_directory",
    "check_shapes", "is_scorer", "main", "one_line", "reason",
]  # fmt: skip
