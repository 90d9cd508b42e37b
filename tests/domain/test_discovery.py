"""Which Resources a monitor creates, and their names."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain import naming
from booking_operator.domain.discovery import DiscoveryPlan, KnownResource, plan_discovery

PLACE = {"type": "ec2", "region": "eu-west-1", "account": ""}
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def plan(asking: set[str], *found: KnownResource, **more: Any) -> DiscoveryPlan:
    facts: dict[str, Any] = {"template": "{tag}", "place": PLACE, "prune": True} | more
    return plan_discovery(asking, found, **facts)


def test_each_managed_group_gets_a_resource() -> None:
    assert plan({"web", "db"}).create == {"db": "db", "web": "web"}


def test_a_group_with_a_resource_of_any_name_gets_no_second_one() -> None:
    assert plan({"web"}, KnownResource("mine", "web", prunable=False)) == DiscoveryPlan({}, ())


def test_a_group_of_another_namespace_gets_no_resource() -> None:
    assert not plan({"web"}, taken={"web"}).create


def test_a_taken_name_falls_back_to_type_and_tag_and_then_to_a_hash() -> None:
    other = KnownResource("web", None, prunable=False)
    assert plan({"web"}, other).create == {"ec2.web": "web"}
    (name,) = plan({"web"}, other, KnownResource("ec2.web", None, prunable=False)).create
    assert re.fullmatch(r"ec2\.web-[0-9a-f]{8}", name)


def test_resources_of_unmanaged_groups_are_pruned_if_allowed() -> None:
    kept, gone = KnownResource("kept", "kept", prunable=False), KnownResource("gone", "gone", prunable=True)
    assert plan(set(), kept, gone).delete == ("gone",)
    assert plan({"gone"}, gone).delete == ()
    assert plan(set(), gone, prune=False).delete == ()


def test_a_template_gives_the_names_of_the_go_operator() -> None:
    assert plan({"web"}, template="{type}.{tag}").create == {"ec2.web": "web"}
    assert plan({"web"}, template="{region}-{tag}").create == {"eu-west-1-web": "web"}


@given(st.sets(st.text(min_size=1, max_size=256), max_size=8))
def test_any_tags_get_valid_and_distinct_names(tags: set[str]) -> None:
    created = plan(tags).create
    assert sorted(created.values()) == sorted(tags)
    for name in created:
        assert len(name) <= 253
        assert SUBDOMAIN.fullmatch(name), name


@pytest.mark.parametrize(
    ("one", "other"), [("Web", "web"), ("a_b", "a-b"), ("ä", "ö"), ("x" * 254, "x" * 255)]
)
def test_similar_tags_get_different_names(one: str, other: str) -> None:
    assert naming.sanitize_name(one) != naming.sanitize_name(other)


def test_a_tag_that_is_a_valid_name_is_kept() -> None:
    assert naming.sanitize_name("my.app-1") == "my.app-1"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("web", "must contain {tag}"),
        ("{tag}_{x}", "is not a valid name template"),
        ("{Tag}", "not a valid name template"),
    ],
)
def test_an_invalid_template_is_refused(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        naming.check_template(template)
