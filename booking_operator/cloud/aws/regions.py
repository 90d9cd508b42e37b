"""The AWS regions that botocore knows."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType

import botocore
from botocore.loaders import Loader


@cache
def regions() -> Mapping[str, str]:
    """Return all regions, each with its partition (`aws`, `aws-cn`, …)."""
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
        fix = f"use a region like eu-central-1, or update botocore ({botocore.__version__}) if it is new"
    raise ValueError(f"{region!r} is not a known AWS region; {fix}")
