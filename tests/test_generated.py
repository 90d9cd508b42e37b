"""The generated files are up to date."""

import pytest

from tools.generate import generated
from tools.project import ROOT

FILES = generated()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_generated_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == FILES[name], "run: tox -e generate"


def test_there_are_no_others() -> None:
    """A kind that was removed leaves no files."""
    for directory in ("charts/booking-operator/files", "docs/reference"):
        found = {str(path.relative_to(ROOT)) for path in (ROOT / directory).rglob("*") if path.is_file()}
        assert found == {name for name in FILES if name.startswith(directory)}
