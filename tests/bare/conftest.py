"""The machine of the tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bare.machine import Machine

_MEMORY = Path("/dev/shm")  # noqa: S108 - a new directory, not a file with a known name
_NEEDED_BYTES = 8 * 2**30


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests of a module, which run in the order of the file."""
    stands = Machine(_in_memory() or tmp_path_factory.mktemp("machine"))
    yield stands
    stands.remove()


def _in_memory() -> Path | None:
    """A new directory in memory if there is room. Some disks need minutes to remove 100,000 files."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _NEEDED_BYTES:
        return None
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return Path(tempfile.mkdtemp(prefix="booking-operator-bare-", dir=_MEMORY))
