"""The configuration file: what it may say, and how it is refused."""

from pathlib import Path

import pytest

from booking_operator.config import ConfigFileError, load

URL = "https://hooks.example.com/T/secret"


def test_targets_are_read_and_their_urls_are_secrets(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"targets:\n  ops: {{type: slack, url: {URL}}}\n")
    config = load(file)
    assert config.targets["ops"].url.get_secret_value() == URL
    assert "secret" not in repr(config)


def test_no_file_and_an_empty_one_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load(None) == load(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("targets: {ops: {type: slack, url: secret-thing}}", "targets.ops.url: it must be a URL"),
        ("targets: {ops: {type: pager, url: 'https://secret.example.com'}}", "targets.ops.type"),
        ("target: {}", "target: Extra inputs"),
        ("targets: [", "while parsing"),
        ("- a", "valid dictionary"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFileError, match=r"config\.yaml") as caught:
        load(file)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")
