"""The name and the version of this project, from pyproject.toml."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME: str = _PROJECT["name"]
VERSION: str = _PROJECT["version"]
