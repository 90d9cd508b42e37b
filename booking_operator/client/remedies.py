"""Which of the commands in an explanation the user may run, by access reviews of the API server."""

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from booking_operator.client.cluster import Permission
from booking_operator.client.why import Explanation, Remedy


class Permissions(Protocol):
    """What a user may do. `Cluster` knows it for the user of the kubeconfig."""

    async def allowed(self, permissions: Collection[Permission]) -> dict[Permission, bool]:
        """Return which permissions the user has."""
        ...


async def checked_remedies(permissions: Permissions, explanation: Explanation) -> Explanation:
    """Replace the commands that the user may not run by a sentence that says who may."""
    needed = {remedy.permission for remedy in explanation.do if remedy.permission is not None}
    allowed = await permissions.allowed(needed)
    remedies = tuple(
        remedy
        if remedy.permission is None or allowed[remedy.permission]
        else Remedy(f"ask {_holder(remedy.permission)} to run: {remedy.text}")
        for remedy in explanation.do
    )
    return replace(explanation, do=remedies)


def _holder(permission: Permission) -> str:
    return f"somebody with the role {permission.role}" if permission.role else "an administrator"
