"""helm, built before the first test that needs it."""

import pytest

from tests.support.helm import helm


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    """A build takes minutes, which must not count for a test."""
    helm("version")
