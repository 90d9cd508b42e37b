"""The settings of `run` and `plan`. Flags override environment variables, which override defaults."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `run` and `plan`. The flags in `cli.commands` document the fields of the same names."""

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
