"""The regions of AWS, as botocore knows them."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType

import botocore
from botocore.loaders import Loader


@cache
def regions() -> Mapping[str, str]:
    """All regions, each with its partition (`aws`, `aws-cn`, …)."""
    partitions = Loader().load_data("partitions")["partitions"]
    return MappingProxyType(
        {
            region: partition["id"]
            for partition in partitions
            for region in partition["regions"]
            if not region.endswith("-global")  # stands for a whole partition, and has no instances
        }
    )


def check_region(region: str) -> str:
    """The region itself.

    Raises:
        ValueError: there is no region of that name; the message has the closest names.
    """
    if region in regions():
        return region
    close = get_close_matches(region.lower().replace("_", "-"), regions(), n=1)
    if close:
        fix = f"did you mean {close[0]}?"
    else:
        fix = f"write it like eu-central-1, or update botocore ({botocore.__version__}) if it is new"
    raise ValueError(f"{region!r} is no region that is known; {fix}")
