"""The machine of the tests."""

from collections.abc import Iterator

import pytest

from tests.bare.machine import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests of a module, which run in the order of the file."""
    stands = Machine(tmp_path_factory.mktemp("machine"))
    yield stands
    stands.remove()
