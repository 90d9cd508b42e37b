"""The IAM policies in the documentation allow exactly the calls that the code makes."""

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from botocore import xform_name
from botocore.session import get_session

from booking_operator.cloud.aws.accounts import Account
from booking_operator.cloud.aws.clients import ClientName
from booking_operator.cloud.aws.scalable_targets import SUSPENDED_TAG
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.services import SERVICES

ROOT = Path(__file__).parent.parent
IAM = ROOT / "docs" / "iam"
TAGGED = {f"aws:ResourceTag/{APPLICATION_TAG}": "false"}
TAGGING = {
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "ec2:CreateTags",
    "ec2:DeleteTags",
    "ecs:TagResource",
    "ecs:UntagResource",
    "rds:AddTagsToResource",
    "rds:RemoveTagsFromResource",
}
WRITTEN_TAGS = {name: list(LOCK_TAGS) for name in SERVICES} | {
    "asg": [*LOCK_TAGS, CAPACITY_TAG],
    "ecs": [*LOCK_TAGS, CAPACITY_TAG, SUSPENDED_TAG],
}
CALLED_SERVICES = (*get_args(ClientName), "sts")
PREFIXES = {"resourcegroupstaggingapi": "tag"}
"""The prefixes of permissions that differ from the name of the client."""
CALLED_ELSEWHERE = {
    f"application-autoscaling:{action}"
    for action in ("DescribeScheduledActions", "TagResource", "UntagResource")
}
"""Actions that are not called, but have the same name as those of ECS or Auto Scaling."""
WITHOUT_TAGS = {"application-autoscaling:RegisterScalableTarget"}
"""Write actions on something that does not have the tags of what is booked."""
# AWS requires this permission for AssumeRole in a session with transitive tags, such as a session of EKS Pod
# Identity:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_role-chaining
WITHOUT_A_CALL = {"sts:TagSession"}


def statements(name: str) -> list[dict[str, Any]]:
    policy = json.loads((IAM / f"{name}.json").read_text())
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allowed(*names: str) -> set[str]:
    return {
        action for name in names for statement in statements(name) for action in as_list(statement["Action"])
    }


def actions_by_method() -> dict[str, set[str]]:
    """The IAM actions of every client method, such as `delete_tags`, which two services have."""
    session, found = get_session(), defaultdict[str, set[str]](set)
    for service in CALLED_SERVICES:
        for operation in session.get_service_model(service).operation_names:
            found[xform_name(operation)].add(f"{PREFIXES.get(service, service)}:{operation}")
    return found


def words(module: ast.Module) -> Iterator[str]:
    """Attribute names and string constants. Paginators are named by strings."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def called() -> set[str]:
    """The actions of all calls in the package, except for the fake AWS of the demo."""
    package, known = ROOT / "booking_operator", actions_by_method()
    modules = [path for path in package.rglob("*.py") if "devcluster" not in path.parts]
    assert len(modules) > 50
    found = {word for path in modules for word in words(ast.parse(path.read_text())) if word in known}
    return {action for word in found for action in known[word]} - CALLED_ELSEWHERE


def test_the_policies_allow_exactly_the_calls_of_the_code() -> None:
    assert allowed(*SERVICES, "assume-role") - WITHOUT_A_CALL == called()


def test_sessions_of_pod_identity_may_assume_other_roles() -> None:
    """The tags of such a session are transitive: AssumeRole tags the new session.

    The policies of both sides must allow this.
    """
    for name in ("assume-role", "trust-account"):
        assert allowed(name) == {"sts:AssumeRole"} | WITHOUT_A_CALL


def test_each_service_has_its_own_document() -> None:
    prefixes = {name: {action.partition(":")[0] for action in allowed(name)} for name in SERVICES}
    assert prefixes == {
        "ec2": {"ec2"},
        "rds": {"rds"},
        "asg": {"autoscaling"},
        "ecs": {"application-autoscaling", "ecs", "tag"},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_write_actions_require_the_booking_tag(name: str) -> None:
    for statement in statements(name):
        actions = set(as_list(statement["Action"]))
        if all(action.partition(":")[2].startswith(("Describe", "Get", "List")) for action in actions):
            assert "Condition" not in statement
            continue
        assert "*" not in as_list(statement["Resource"])
        if actions & WITHOUT_TAGS:
            assert statement["Condition"]["StringEquals"]["application-autoscaling:service-namespace"] == name
            continue
        assert statement["Condition"]["Null"].items() >= TAGGED.items()
        assert actions <= TAGGING or not actions & TAGGING
        if actions <= TAGGING:
            assert statement["Condition"]["ForAllValues:StringEquals"] == {"aws:TagKeys": WRITTEN_TAGS[name]}
            # "ForAllValues" is true without keys, and DeleteTags without keys deletes all tags.
            assert statement["Condition"]["Null"]["aws:TagKeys"] == "false"


def test_no_policy_has_a_wildcard_for_an_action_or_a_role() -> None:
    for path in IAM.glob("*.json"):
        for statement in statements(path.stem):
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in as_list(statement["Action"]))
            assert statement.get("Principal") != "*"
    [assume] = statements("assume-role")
    assert not any("*" in role for role in assume["Resource"])


def test_the_configuration_accepts_the_roles_in_the_examples() -> None:
    [assume], [trust] = statements("assume-role"), statements("trust-account")
    for arn in (*assume["Resource"], trust["Principal"]["AWS"]):
        assert Account(role_arn=arn, external_id="from-acme").role_arn == arn


def test_the_trusted_service_account_is_the_installed_one() -> None:
    manifest = (ROOT / "manifests" / "rbac" / "service_account.yaml").read_text()
    namespace, name = "booking-operator-system", "booking-operator"
    assert f"name: {name}\n  namespace: {namespace}\n" in manifest
    [irsa], [pod] = statements("trust-irsa"), statements("trust-pod-identity")
    subjects = [
        value for key, value in irsa["Condition"]["StringEquals"].items() if key.endswith("EXAMPLE:sub")
    ]
    assert subjects == [f"system:serviceaccount:{namespace}:{name}"]
    assert pod["Condition"]["StringEquals"] == {
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": name,
    }


def test_each_document_is_explained() -> None:
    explained = (IAM / "README.md").read_text()
    for path in IAM.glob("*.json"):
        assert f"[{path.name}]({path.name})" in explained


def test_the_page_about_calls_names_each_call() -> None:
    page = (ROOT / "docs" / "aws-calls.md").read_text()
    made = allowed("ec2", "rds", "asg", "ecs", "assume-role") - WITHOUT_A_CALL
    assert [action for action in sorted(made) if f"`{action.partition(':')[2]}`" not in page] == []
