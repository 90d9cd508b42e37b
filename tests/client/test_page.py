"""The page docs/kubectl-booking.md, compared with the plugin."""

import re
from pathlib import Path

import pytest
import yaml

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, Kind
from booking_operator.cli.kubectl.main import cli
from booking_operator.client.cluster import Permission
from booking_operator.client.errors import ExitCode
from booking_operator.domain.time_grammar import parse_when
from tests.support.people import BERLIN, NOW

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubectl-booking.md").read_text()
ROLES = ROOT / "manifests" / "components" / "tenant-roles"


def test_the_exit_codes_are_those_of_the_plugin() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == list(ExitCode)


def test_each_command_is_described() -> None:
    undescribed = [name for name in cli.commands if not re.search(rf"(`|booking ){name}\b", PAGE)]
    assert undescribed == []


def test_each_time_of_the_page_is_accepted() -> None:
    section = PAGE.partition("## Times")[2].partition("## Output")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    texts = [text for row in rows for text in re.findall(r"`([^`]+)`", row)]
    assert len(texts) > 10
    for text in texts:
        parse_when(text, NOW, BERLIN)


@pytest.mark.parametrize("kind", [BOOKING, BOOKING_SCHEDULER, RESOURCE])
@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "patch", "delete"])
def test_the_role_that_an_error_names_has_the_permission(verb: str, kind: Kind[object]) -> None:
    named = Permission(verb, kind, "team-a").role
    roles = {
        role["metadata"]["name"]: role["rules"]
        for role in (
            yaml.safe_load((ROLES / f"{name}.yaml").read_text()) for name in ("view", "edit", "admin")
        )
    }
    assert any(kind.plural in rule["resources"] and verb in rule["verbs"] for rule in roles[named])
