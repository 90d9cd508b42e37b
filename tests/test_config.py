"""The configuration file: valid values, and messages for invalid ones."""

from pathlib import Path

import pytest

from booking_operator.cloud.aws.accounts import Account
from booking_operator.cloud.batching.token_bucket import (
    DEFAULT_LIMITS,
    PUBLISHED_LIMITS,
    BucketLimit,
    RequestLimits,
)
from booking_operator.config import ConfigFileError, load_config
from booking_operator.domain.group import Scope

ARN = "arn:aws:iam::123456789012:role/operator"
URL = "https://hooks.example.com/T/secret"


def called(tmp_path: Path, url: str) -> str:
    """The URL to call for a target that has `url` in the file."""
    file = tmp_path / "config.yaml"
    file.write_text(f"targets:\n  ops: {{type: slack, url: '{url}'}}\n", encoding="utf-8")
    return load_config(file).targets["ops"].url.get_secret_value()


def test_targets_are_read_and_their_urls_are_secrets(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"targets:\n  ops: {{type: slack, url: {URL}}}\n")
    config = load_config(file)
    assert config.targets["ops"].url.get_secret_value() == URL
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    "host",
    [
        "hooks.example.com.",
        f"{'a' * 63}.example.com",
        "localhost:8080",
        "[::1]:80",
        "10.0.0.1",
        "xn--bcher-kva.example",
    ],
)
def test_valid_hosts_are_accepted(tmp_path: Path, host: str) -> None:
    assert called(tmp_path, f"https://{host}/T") == f"https://{host}/T"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https:hooks.example.com/T", "https://hooks.example.com/T"),
        ("https:///hooks.example.com/T", "https://hooks.example.com/T"),
        (" HTTPS://hooks.example.com/T", "https://hooks.example.com/T"),
        ("https://bücher.example/T", "https://xn--bcher-kva.example/T"),
    ],
)
def test_a_url_is_normalized_as_in_a_browser(tmp_path: Path, url: str, read: str) -> None:
    assert called(tmp_path, url) == read


def test_accounts_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"accounts:\n  acme: {{role_arn: '{ARN}', external_id: '0123', regions: [eu-west-1]}}\n"
        "  china-2: {role_arn: 'arn:aws-cn:iam::123456789012:role/teams/x/operator', regions: []}\n"
    )
    acme, china = load_config(file).accounts["acme"], load_config(file).accounts["china-2"]
    assert acme == Account(role_arn=ARN, external_id="0123", regions=("eu-west-1",))
    assert (china.external_id, china.regions) == ("", ())


def test_a_missing_or_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(None, tmp_path / "none" / "config.yaml") == load_config(tmp_path / "empty.yaml")


def test_the_default_path_is_where_the_deployment_mounts_the_file(tmp_path: Path) -> None:
    default = tmp_path / "config.yaml"
    (tmp_path / "..data").mkdir()
    assert load_config(None, default).accounts == {}
    (tmp_path / "config.yml").write_text("")
    with pytest.raises(ConfigFileError, match=r"contains config\.yml; rename .* to config\.yaml"):
        load_config(None, default)
    default.write_text(f"accounts: {{acme: {{role_arn: '{ARN}'}}}}")
    assert list(load_config(None, default).accounts) == ["acme"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("targets: {ops: {type: slack, url: secret-thing}}", "targets.ops.url: must be a URL"),
        (
            "targets: {ops: {type: slack, url: 'https://hooks..example.com/T/secret'}}",
            "targets.ops.url: part 2 of the host name is empty; use single dots, as in hooks.example.com",
        ),
        (
            "targets: {ops: {type: slack, url: 'https://.secret.com/'}}",
            "targets.ops.url: part 1 of the host name is",
        ),
        (
            "targets: {ops: {type: slack, url: 'https://secret.com../'}}",
            "targets.ops.url: part 3 of the host name is",
        ),
        (
            "targets: {ops: {type: slack, url: 'https://secret。。com'}}",
            "targets.ops.url: part 2 of the host name is",
        ),
        (
            f"targets: {{ops: {{type: slack, url: 'https://user:secret@{'a' * 64}.com/'}}}}",
            "targets.ops.url: part 1 of the host name has 64 characters, but DNS allows 63; use a URL like",
        ),
        ("targets: {ops: {type: pager, url: 'https://secret.example.com'}}", "targets.ops.type"),
        ("target: {}", "target: Extra inputs"),
        ("targets: [", "line 1, column 11: expected the node content, but found '…'"),
        ("targets:\n  ci:\n    url: https://secret.example.com: x", "line 3, column 36: mapping values are"),
        ("targets: *secret", "line 1, column 10: found undefined alias '…'"),
        ("targets: !!python/object:secret.x {}", "could not determine a constructor for the tag '…'"),
        ('url: "https://secret', "found unexpected end of stream"),
        ("url: secret\x00", "the file is not valid YAML"),
        ("- a", "valid dictionary"),
    ],
)
def test_errors_in_the_file_are_reported_without_secrets(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFileError, match=r"config\.yaml") as caught:
        load_config(file)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("accounts", "words"),
    [
        ("[acme]", "accounts: Input should be a valid dictionary"),
        ("{'': {role_arn: ROLE}}", "accounts: '' is not a valid account name; the empty name means"),
        (
            "{Acme: {role_arn: ROLE}}",
            "accounts: 'Acme' is not a valid account name; use at most 63 lowercase",
        ),
        (f"{{{'a' * 64}: {{role_arn: ROLE}}}}", f"accounts: '{'a' * 64}' is not a valid account name"),
        ("{123456789012: {role_arn: ROLE}}", "accounts: 123456789012 is not a string; put it in quotes"),
        ("{no: {role_arn: ROLE}}", "accounts: False is not a string; put it in quotes"),
        ("{acme: {}}", "accounts.acme.role_arn: Field required"),
        ("{acme: {role_arn: ROLE, role: x}}", "accounts.acme.role: Extra inputs"),
        (
            "{acme: {role_arn: operator}}",
            "accounts.acme.role_arn: 'operator' is not the ARN of a role; use a value like arn:aws:iam::",
        ),
        ("{acme: {role_arn: 'arn:aws:iam::12345:role/x'}}", "accounts.acme.role_arn: 'arn:"),
        ("{acme: {role_arn: 'arn:aws:iam::123456789012:user/x'}}", "accounts.acme.role_arn: 'arn:"),
        ("{acme: {role_arn: 'arn:aws:sts::123456789012:assumed-role/x/y'}}", "accounts.acme.role_arn: 'arn:"),
        ("{acme: {role_arn: 'arn:aws:iam::123456789012:role/x '}}", "accounts.acme.role_arn: 'arn:"),
        (
            "{acme: {role_arn: ROLE, external_id: 0123}}",
            "accounts.acme.external_id: 83 is not a string; put it in quotes",
        ),
        (
            "{acme: {role_arn: ROLE, external_id: 'a b'}}",
            "accounts.acme.external_id: 'a b' is not a valid external ID; use 2 to 1224 letters",
        ),
        (
            "{acme: {role_arn: ROLE, regions: [eu-west-1, eu-wst-2]}}",
            "accounts.acme.regions.1: 'eu-wst-2' is not a known AWS region; did you mean eu-west-2?",
        ),
        (
            "{acme: {role_arn: ROLE, regions: [Narnia]}}",
            "accounts.acme.regions.0: 'Narnia' is not a known AWS region; use a region like eu-central-1, or",
        ),
        (
            "{acme: {role_arn: ROLE, regions: [cn-north-1]}}",
            "accounts.acme: the region 'cn-north-1' is in the partition aws-cn, but role_arn is in aws;",
        ),
    ],
)
def test_errors_in_an_account_are_reported(tmp_path: Path, accounts: str, words: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"accounts: {accounts.replace('ROLE', ARN)}")
    with pytest.raises(ConfigFileError) as caught:
        load_config(file)
    assert f"config.yaml: {words}" in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_limits_are_those_of_aws_unless_configured(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        """
limits:
  StartInstances: {instances: {size: 4000, rate: 8}}
accounts:
  prod:
    role_arn: arn:aws:iam::123456789012:role/booking
    limits: {StartInstances: {requests: {size: 50, rate: 20}}}
"""
    )
    look_up = load_config(file).limits_of()
    own, prod = Scope("", "eu-west-1"), Scope("prod", "eu-west-1")
    assert look_up(own, "StartInstances") == RequestLimits(BucketLimit(5, 2), BucketLimit(4000, 8))
    assert look_up(prod, "StartInstances") == RequestLimits(BucketLimit(50, 20), BucketLimit(4000, 8))
    assert look_up(prod, "StopInstances") == PUBLISHED_LIMITS["StopInstances"]
    assert look_up(own, "StartDBInstance") == DEFAULT_LIMITS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits: {StartInstance: {requests: {size: 5, rate: 2}}}", "did you mean StartInstances?"),
        ("limits: {RunTask: {requests: {size: 5, rate: 2}}}", "use one of AddTagsToResource"),
        ("limits: {StopInstances: {requests: {size: 0, rate: 2}}}", "limits.StopInstances.requests.size"),
        ("limits: {StopInstances: {requests: {size: 5}}}", "limits.StopInstances.requests.rate"),
    ],
)
def test_invalid_limits_are_reported(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        load_config(file)
    assert words in str(caught.value)
