"""Configuration of `run`: flags over environment over defaults."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """What `run` was asked to do. Fields are documented by the flags of the same names in `cli`."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = ""
    region: str = ""
    dry_run: bool = False
    leader_elect: bool = False
    lease_duration: timedelta = timedelta(seconds=30)
    leader_election_id: str = "booking-operator"
    leader_election_namespace: str = ""
    metrics_bind_address: str = "0"
    health_probe_bind_address: str = "0"
    notify_before: timedelta = timedelta(minutes=20)
    config: Path | None = None
    log_format: Literal["json", "console"] = "console"
    log_level: str = "info"
