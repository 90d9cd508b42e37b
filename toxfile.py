"""Prints what `tox -e demo` is going to do before it installs the first package, which takes a minute.

tox loads this file: https://tox.wiki/en/latest/how-to/extend.html
"""

import os
import sys
from pathlib import Path
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv

_shown: list[str] = []
"""The introduction, once it was printed."""


@impl
def tox_on_install(tox_env: ToxEnv, arguments: Any, section: str, of_type: str) -> None:
    """Print the introduction once, before the first installation into the environment of the demo."""
    del arguments, section, of_type
    if tox_env.conf.name == "demo" and "--context" not in sys.argv and not _shown:
        sys.path.insert(0, str(Path(__file__).parent))
        from booking_operator.devcluster.first_run import introduction  # noqa: PLC0415 - stdlib only

        _shown.append(introduction(os.environ))
        print(f"\n{_shown[0]}\n", flush=True)  # noqa: T201
