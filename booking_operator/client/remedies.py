"""Which of the commands in an explanation the user may run, by SelfSubjectAccessReviews."""

from dataclasses import replace

from booking_operator.client.cluster import Cluster, Permission
from booking_operator.client.why import Explanation, Remedy


async def checked_remedies(cluster: Cluster, explanation: Explanation) -> Explanation:
    """Replace the commands that the user may not run by a sentence that says who may."""
    needed = {remedy.permission for remedy in explanation.do if remedy.permission is not None}
    allowed = await cluster.allowed(needed)
    remedies = tuple(
        remedy
        if remedy.permission is None or allowed[remedy.permission]
        else Remedy(f"ask {_holder(remedy.permission)} to run: {remedy.text}")
        for remedy in explanation.do
    )
    return replace(explanation, do=remedies)


def _holder(permission: Permission) -> str:
    return f"somebody with the role {permission.role}" if permission.role else "an administrator"
