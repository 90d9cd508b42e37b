"""Configuration of `run`: flags over environment over defaults."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """What `run` was asked to do. Fields are documented by the flags of the same names in `cli`."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = ""
    region: str = ""
    dry_run: bool = False
    log_format: Literal["json", "console"] = "console"
    log_level: str = "info"
