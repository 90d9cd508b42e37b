"""The operator's configuration file: what is too long for flags, and whom tenants can name but not choose."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, HttpUrl, SecretStr, TypeAdapter, ValidationError

from booking_operator.api.meta import describe_errors
from booking_operator.cloud.aws.accounts import NamedAccounts
from booking_operator.cloud.aws.request_limits import LimitsByAction, limits_of
from booking_operator.cloud.batching.token_bucket import LimitsOf
from booking_operator.engine.yaml_errors import describe_yaml_error

DEFAULT = Path("/etc/booking-operator/config.yaml")
"""Where the Deployment mounts the ConfigMap booking-operator-config, which may be absent."""

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)
_LONGEST_LABEL = 63  # RFC 1035, 2.3.4


def _url(secret: SecretStr) -> SecretStr:
    """The URL as a browser reads it (https://url.spec.whatwg.org): what was checked is what is called."""
    try:
        url = _URL.validate_python(secret.get_secret_value())
    except ValidationError:
        raise ValueError("it must be a URL like https://hooks.example.com/…") from None
    # By number and not by name: who forgot the host has a part of the secret in its place.
    for number, label in enumerate((url.host or "").removesuffix(".").split("."), start=1):
        if not label:
            raise ValueError(
                f"part {number} of its host is empty; write it like hooks.example.com, with single dots"
            )
        if len(label) > _LONGEST_LABEL:
            raise ValueError(
                f"part {number} of its host has {len(label)} characters, and DNS allows {_LONGEST_LABEL}; "
                "write it like https://hooks.example.com/…"
            )
    return SecretStr(str(url))


class Target(BaseModel):
    """Where a notification of type `webhook` or `slack` goes; its name is the recipient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["webhook", "slack"]
    url: Annotated[SecretStr, AfterValidator(_url)]


class Config(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: dict[str, Target] = {}
    accounts: NamedAccounts = {}
    limits: LimitsByAction = {}

    def limits_of(self) -> LimitsOf:
        """The request limits of each account, as far as is known."""
        named = {name: account.limits for name, account in self.accounts.items()}
        return limits_of(self.limits, named)


class ConfigFileError(Exception):
    """The configuration file cannot be used.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True


def load_config(path: Path | None, default: Path = DEFAULT) -> Config:
    """Read the file, which is YAML; without a `path` that at `default`, if there is one.

    Raises:
        ConfigFileError: it cannot be read, or something in it is wrong; the message names the field.
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
    """The file at `default`, if there is one.

    Raises:
        ConfigFileError: there are others in its place, as of a ConfigMap whose key is misspelt.
    """
    if default.exists() or not default.parent.is_dir():
        return default if default.exists() else None
    others = sorted(file.name for file in default.parent.iterdir() if not file.name.startswith("."))
    if others:
        raise ConfigFileError(f"{default.parent} has {', '.join(others)}; call it {default.name}")
    return None
