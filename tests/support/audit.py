"""The audit log of a kube-apiserver: requests, their users, and the decisions of RBAC."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.support.json_lines import json_lines

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


_AGENTS = frozenset({"booking-operator", "booking-operator-board"})


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """A permission in terms of RBAC. `name` is empty if the rule has no resourceNames."""

    verb: str
    group: str
    resource: str
    name: str = ""


def expanded(rules: Sequence[Mapping[str, Any]]) -> set[Permission]:
    """Every permission that the rules of a Role or ClusterRole grant."""
    return {
        Permission(*permission)
        for rule in rules
        for permission in product(
            rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        )
    }


class AuditLog:
    """Requests of ServiceAccounts. The API server writes each entry before it sends the response."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "audit.log"
        policy = directory / "policy.yaml"
        policy.write_text(yaml.safe_dump(POLICY))
        self.flags = (f"--audit-policy-file={policy}", f"--audit-log-path={self._log}")

    def used(self, user: str, granted: Collection[Permission]) -> set[Permission]:
        """The permissions that a user's requests for resources needed.

        A permission has the name of the object only if `granted` lacks the permission for all names.
        """
        needed = set()
        for entry in self._of(user):
            of = entry["objectRef"]
            resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
            whole = Permission(entry["verb"], of.get("apiGroup", ""), resource)
            named = Permission(whole.verb, whole.group, whole.resource, of.get("name", ""))
            needed.add(whole if whole in granted else named)
        return needed

    def refused(self, user: str) -> list[str]:
        """The requests of a user that RBAC refused."""
        return [
            f"{entry['verb']} {entry['requestURI']}"
            for entry in self._of(user)
            if entry["annotations"]["authorization.k8s.io/decision"] == "forbid"
        ]

    def _of(self, user: str) -> Iterator[dict[str, Any]]:
        """Requests of the operator and of the board for resources.

        Requests for other paths, such as discovery, need no rule.

        Other tests use the same ServiceAccount through kubectl. The user agent excludes these.
        """
        for entry in json_lines(self._log):
            if (
                entry["user"]["username"] == user
                and entry.get("userAgent") in _AGENTS
                and "objectRef" in entry
                and "resource" in entry["objectRef"]
            ):
                yield entry
