"""Archives with the same bytes for the same content, wherever and whenever they are made."""

import copy
import tarfile
from pathlib import Path


def normalize(path: Path, timestamp: int) -> None:
    """Rewrite a tar archive: members by name, with one time and without an owner.

    Args:
        path: the archive, without compression.
        timestamp: the time of all members, in seconds since 1970 (UTC).
    """
    normal = path.with_suffix(".part")
    with tarfile.open(path) as old, tarfile.open(normal, "w", format=tarfile.GNU_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            kept = copy.copy(member)
            kept.pax_headers = {}
            kept.mtime, kept.uid, kept.gid, kept.uname, kept.gname = timestamp, 0, 0, "", ""
            new.addfile(kept, old.extractfile(member) if member.isfile() else None)
    normal.replace(path)
