"""Print the manifest for krew of one release.

    python -m tools.krew dist/booking_operator-0.1.0.tar.gz

The argument is the source distribution of the release. It contains the launcher that krew installs. The
manifest has the checksum of this file, so it can only be made after the file.
"""

import hashlib
import re
import sys
from pathlib import Path

_MANIFEST = """\
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: booking
spec:
  version: v{version}
  homepage: https://pypi.org/project/booking-operator
  shortDescription: Book cloud machines, and see who has them
  description: |
    Books groups of cloud machines that the booking operator starts and stops, extends and releases
    bookings, shows who has which machine until when, and explains why a machine does not run.
  caveats: |
    The plugin is a Python program. It needs uv or pipx on the PATH, which install it at its first run.
  platforms:
    - selector:
        matchExpressions:
          - {{key: os, operator: In, values: [darwin, linux]}}
      uri: https://pypi.io/packages/source/b/booking-operator/{file}
      sha256: {sha256}
      bin: kubectl-booking
      files:
        - from: booking_operator-{version}/manifests/krew/kubectl-booking
          to: .
        - from: booking_operator-{version}/LICENSE
          to: .
"""


def render(sdist: Path) -> str:
    """Return the manifest for a source distribution.

    Raises:
        ValueError: the name of the file is not that of a source distribution of this package.
    """
    found = re.fullmatch(r"booking_operator-([0-9][^/]*)\.tar\.gz", sdist.name)
    if found is None:
        raise ValueError(f"{sdist.name} is not like booking_operator-0.1.0.tar.gz")
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    return _MANIFEST.format(version=found[1], file=sdist.name, sha256=digest)


if __name__ == "__main__":
    sys.stdout.write(render(Path(sys.argv[1])))
