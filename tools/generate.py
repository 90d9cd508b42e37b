"""Writes all files that are generated from the code: `tox -e generate`.

The tests compare `generated()` with the files, so that none is out of date.
"""

from collections.abc import Iterator, Mapping

from booking_operator.api import crd
from booking_operator.api.kinds import ALL_KINDS
from tools import reference
from tools.project import ROOT

CHART_FILES = "charts/booking-operator/files"
ALERTS = "manifests/monitoring/alerts.yaml"


def generated() -> Mapping[str, str]:
    """Return the text of all generated files, by path relative to the top directory."""
    return dict(_files())


def _files() -> Iterator[tuple[str, str]]:
    for kind in ALL_KINDS:
        # The files of a chart must be inside of its directory, because GitOps tools refuse links to others.
        for directory in ("manifests/crds", f"{CHART_FILES}/crds"):
            yield f"{directory}/{crd.file_name(kind)}", crd.render(kind)
        yield f"docs/reference/{kind.name.lower()}.md", reference.kind_page(kind)
    yield f"{CHART_FILES}/alerts.yaml", (ROOT / ALERTS).read_text()
    yield "docs/reference/metrics.md", reference.metrics_page()
    yield "docs/reference/booking-operator.md", reference.operator_page()
    yield "docs/reference/kubectl-booking.md", reference.plugin_page()


def main() -> None:
    """Write the files whose text has changed, and print their paths."""
    for name, text in generated().items():
        path = ROOT / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(name)  # noqa: T201


if __name__ == "__main__":
    main()
