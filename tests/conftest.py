"""Settings of all tests, and the marks of whole folders."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("plain", deadline=None)  # time is measured in bench/, not here
settings.load_profile("plain")

_HERE = Path(__file__).parent
_MARKS = {
    _HERE / "bench": pytest.mark.tooling,
    _HERE / "devcluster": pytest.mark.tooling,
    _HERE / "go": pytest.mark.tooling,
    _HERE / "image": pytest.mark.tooling,
    _HERE / "e2e" / "manifests": pytest.mark.dedicated,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in _marks_of(item.path):
            item.add_marker(mark)


@cache
def _marks_of(path: Path) -> list[pytest.MarkDecorator]:
    return [mark for folder, mark in _MARKS.items() if folder in path.parents]
