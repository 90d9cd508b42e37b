"""The settings of flags and environment, and the configuration file.

The configuration file has targets of notifications, AWS accounts, and request limits. Tenants use the names
of targets and accounts in their manifests. Only the configuration file defines the URLs and roles behind
these names.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, HttpUrl, SecretStr, TypeAdapter, ValidationError

from booking_operator.api.meta import describe_errors
from booking_operator.cloud.aws.accounts import NamedAccounts
from booking_operator.cloud.aws.limits_config import LimitsByAction, limits_of
from booking_operator.cloud.batching.token_bucket import LimitsOf
from booking_operator.engine.yaml_errors import describe_yaml_error
from booking_operator.errors import UserError

DEFAULT = Path("/etc/booking-operator/config.yaml")
"""Where the Deployment mounts the ConfigMap booking-operator-config, which may be absent."""

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)
_MAX_LABEL_LENGTH = 63  # RFC 1035, section 2.3.4


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `run` and `plan`. Flags override environment variables, which override defaults.

    The flags in `cli.commands` document the fields of the same names.
    """

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
    lock_tags: bool = True
    deletion_grace: timedelta = timedelta(seconds=5)
    config: Path | None = None
    log_format: Literal["json", "console"] = "console"
    log_level: str = "info"


def _url(secret: SecretStr) -> SecretStr:
    """Validate and normalize a URL by https://url.spec.whatwg.org, so that the validated URL is the one used.

    Raises:
        ValueError: the URL or a part of its host is invalid.
    """
    try:
        url = _URL.validate_python(secret.get_secret_value())
    except ValidationError:
        raise ValueError("must be a URL like https://hooks.example.com/…") from None
    # The messages give the number of a part and not its text. If the user forgot the host, a part of the
    # secret is in its place.
    for number, label in enumerate((url.host or "").removesuffix(".").split("."), start=1):
        if not label:
            raise ValueError(
                f"part {number} of the host name is empty; use single dots, as in hooks.example.com"
            )
        if len(label) > _MAX_LABEL_LENGTH:
            raise ValueError(
                f"part {number} of the host name has {len(label)} characters, but DNS allows "
                f"{_MAX_LABEL_LENGTH}; use a URL like https://hooks.example.com/…"
            )
    return SecretStr(str(url))


class Target(BaseModel):
    """The target of notifications of type `webhook` or `slack`. Its name is the recipient in manifests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["webhook", "slack"]
    url: Annotated[SecretStr, AfterValidator(_url)]


class Config(BaseModel):
    """The contents of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: dict[str, Target] = {}
    accounts: NamedAccounts = {}
    limits: LimitsByAction = {}

    def limits_of(self) -> LimitsOf:
        """Return a function that looks up the request limits of an action in a scope."""
        named = {name: account.limits for name, account in self.accounts.items()}
        return limits_of(self.limits, named)


class ConfigFileError(UserError):
    """The configuration file cannot be used."""


def load_config(path: Path | None, default: Path = DEFAULT) -> Config:
    """Read the configuration file, which is YAML.

    Args:
        path: the file. If None, the file at `default` if it exists, and an empty configuration otherwise.
        default: the default path.

    Raises:
        ConfigFileError: the file cannot be read or is invalid. The message names the field.
    """
    path = path or _found(default)
    if path is None:
        return Config()
    try:
        return Config.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path}: {describe_yaml_error(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ConfigFileError(f"{path}: {describe_errors(error)}") from None


def _found(default: Path) -> Path | None:
    """Return `default` if the file exists; None if it does not.

    Raises:
        ConfigFileError: the directory has only other files, for example from a ConfigMap with a misspelt key.
    """
    if default.exists() or not default.parent.is_dir():
        return default if default.exists() else None
    others = sorted(file.name for file in default.parent.iterdir() if not file.name.startswith("."))
    if others:
        raise ConfigFileError(
            f"{default} does not exist, but {default.parent} contains {', '.join(others)}; rename "
            f"the file, or the key of the ConfigMap, to {default.name}"
        )
    return None
