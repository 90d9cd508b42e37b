"""What people type for an object: `NAME`, `TYPE/NAME`, or `TYPE.GROUP/NAME` as kubectl prints it."""

from dataclasses import dataclass
from typing import Any

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, Kind
from booking_operator.api.meta import GROUP
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.domain.naming import is_object_name

_KINDS: dict[str, Kind[Any]] = {
    name: kind
    for kind in (RESOURCE, BOOKING, BOOKING_SCHEDULER)
    for name in (kind.plural, kind.name.lower(), kind.short_name)
}


@dataclass(frozen=True, slots=True)
class NamedObject:
    """The object that a command is about.

    Attributes:
        name: its name.
        kind: its kind; None if the user has not named it.
    """

    name: str
    kind: Kind[Any] | None = None


def parse_object_name(text: str, *kinds: Kind[Any]) -> NamedObject:
    """Parse what a user typed for an object of one of `kinds`.

    Raises:
        CommandError: the type is another one, or the name cannot be one of Kubernetes.
    """
    type_, separator, name = text.rpartition("/")
    if not is_object_name(name):
        hint = "a name has lowercase letters, digits, '-' and '.', as kubectl get shows it"
        raise CommandError(f'"{text}" is not the name of an object', hint=hint, code=ExitCode.USAGE)
    if not separator:
        return NamedObject(name, kinds[0] if len(kinds) == 1 else None)
    kind = _KINDS.get(type_.lower().removesuffix(f".{GROUP}").removesuffix(".v1"))
    if kind is None or kind not in kinds:
        forms = " or ".join(f"{item.name.lower()}/{name}" for item in kinds)
        raise CommandError(
            f'"{type_}" is not a type of this command', hint=f"write {forms}", code=ExitCode.USAGE
        )
    return NamedObject(name, kind)
