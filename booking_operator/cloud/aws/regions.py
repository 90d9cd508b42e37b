"""The AWS regions that botocore knows."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from types import MappingProxyType

from booking_operator import extras


@cache
def regions() -> Mapping[str, str]:
    """Return all regions, each with its partition (`aws`, `aws-cn`, …).

    Raises:
        MissingExtraError: the extra `operator` is not installed, as for users of `kubectl booking`.
    """
    extras.require("operator")
    from botocore.loaders import Loader  # noqa: PLC0415 - of the extra

    partitions = Loader().load_data("partitions")["partitions"]
    return MappingProxyType(
        {
            region: partition["id"]
            for partition in partitions
            for region in partition["regions"]
            if not region.endswith("-global")  # a pseudo-region without instances
        }
    )


def check_region(region: str) -> str:
    """Return the region if it exists.

    Raises:
        ValueError: the region does not exist; the message contains the closest name.
    """
    if region in regions():
        return region
    close = get_close_matches(region.lower().replace("_", "-"), regions(), n=1)
    if close:
        fix = f"did you mean {close[0]}?"
    else:
        known = version("botocore")
        fix = f"use a region like eu-central-1, or update botocore ({known}) if it is new"
    raise ValueError(f"{region!r} is not a known AWS region; {fix}")
