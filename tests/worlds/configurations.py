"""A configuration as a node reads it."""

from pathlib import Path

from basestore.config import NodeConfig
from basestore.config_file import parse

ID, KEY = "00" * 16, "11" * 32

GOOD = f"""
[cluster]
id = "{ID}"
key = "{KEY}"

[[members]]
number = 0
name = "n1"
address = "127.0.0.1:7400"

[[members]]
number = 3
name = "n2"
address = "127.0.0.1:7401"

[[members]]
number = 7
name = "n3"
address = "[::1]:7402"
zone = "b"

[node]
name = "n1"
"""


def read(text: str) -> NodeConfig:
    return parse(text, "n1.toml", Path("/base"))
