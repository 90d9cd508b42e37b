"""The committed CRDs equal those generated from the models."""

from pathlib import Path

import yaml

from booking_operator.api import crd
from booking_operator.api.kinds import ALL_KINDS, KINDS

MANIFESTS = Path(__file__).parents[2] / "manifests"


def test_the_kustomization_lists_all_crds() -> None:
    kustomization = yaml.safe_load((MANIFESTS / "crds" / "kustomization.yaml").read_text())
    assert kustomization["resources"] == [crd.file_name(kind) for kind in ALL_KINDS]


def test_samples_are_of_known_kinds() -> None:
    samples = sorted((MANIFESTS / "samples").glob("*.yaml"))
    assert {yaml.safe_load(sample.read_text())["kind"] for sample in samples} == {kind.name for kind in KINDS}
