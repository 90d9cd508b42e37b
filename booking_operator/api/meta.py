"""The parts that all kinds share: metadata, conditions, and the handling of invalid specs.

Invariant: an object that breaks the schema never stops a list or a watch. Its spec becomes `InvalidSpec`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass

from booking_operator.api.fields import INTERNED
from booking_operator.domain.conditions import ConditionUpdate, Failure
from booking_operator.domain.formatting import format_utc

GROUP = "manager.kotaico.de"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
MONITOR_ANNOTATION = f"{GROUP}/monitor"
"""Annotation of a Resource: the name of the monitor that created it."""
TEMPLATE_ANNOTATION = f"{GROUP}/template"
"""Annotation of a Booking: the hash of the template from which its scheduler created it."""
_KNOWN_ANNOTATIONS, _MAX_NAME_LENGTH = (MONITOR_ANNOTATION, TEMPLATE_ANNOTATION), 253

WIRE_CONFIG = ConfigDict(extra="ignore", populate_by_name=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class OwnerReference:
    """An owner of an object. Garbage collection deletes the object with its owner."""

    uid: str
    controller: bool = False


_NO_ANNOTATIONS: Mapping[str, str] = {}
_MAX_ERRORS, _MAX_ERROR_LENGTH = 10, 300
_MAX_NAMES = 16


def _known_annotations(annotations: Any) -> Any:
    """Keep only the annotations that the operator reads, because others can use much memory."""
    if not isinstance(annotations, dict):
        return annotations
    return {
        key: annotations[key] for key in _KNOWN_ANNOTATIONS if _short(annotations.get(key))
    } or _NO_ANNOTATIONS


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_NAME_LENGTH


def _controller_owners(owners: Any) -> Any:
    """Keep only the owner that is the controller, to save memory. The API server allows at most one."""
    if not isinstance(owners, list):
        return owners
    return [owner for owner in owners if not isinstance(owner, dict) or owner.get("controller")]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ObjectMeta:
    """The metadata of an object, as far as the operator reads it."""

    name: str
    uid: str = ""
    namespace: Annotated[str, INTERNED] = ""
    resource_version: str = Field(default="", alias="resourceVersion")
    generation: int = 0
    creation_timestamp: AwareDatetime = Field(
        default=datetime.fromisoformat("1970-01-01T00:00:00Z"), alias="creationTimestamp"
    )
    deletion_timestamp: AwareDatetime | None = Field(default=None, alias="deletionTimestamp")
    finalizers: tuple[str, ...] = ()
    annotations: Annotated[Mapping[str, str], BeforeValidator(_known_annotations)] = Field(
        default_factory=lambda: _NO_ANNOTATIONS
    )
    owner_references: Annotated[tuple[OwnerReference, ...], BeforeValidator(_controller_owners)] = Field(
        default=(), alias="ownerReferences"
    )

    @property
    def controller_uid(self) -> str:
        """The uid of the owner that is the controller; empty when there is none."""
        return next((owner.uid for owner in self.owner_references if owner.controller), "")


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class MetaWithoutFinalizers(ObjectMeta):
    """The metadata of a kind without its finalizers, which the operator does not read.

    An object may have a megabyte of finalizers.
    """

    finalizers: Annotated[tuple[str, ...], PlainValidator(lambda _: ())] = ()


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Condition:
    """One aspect of the state of the object, as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=316), INTERNED]
    """The aspect, such as Valid or Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition is true."""
    reason: Annotated[str, Field(max_length=1024), INTERNED] = ""
    """The reason for the status, as one CamelCase word for programs."""
    message: Annotated[str, Field(max_length=32768), INTERNED] = ""
    """The reason for the status, as text for people."""
    last_transition_time: Annotated[str, Field(alias="lastTransitionTime"), INTERNED] = ""
    """When `status` last changed, in UTC."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this condition describes."""


@dataclass(frozen=True, slots=True)
class InvalidSpec:
    """A stored spec that breaks the schema.

    Attributes:
        message: the fields that break it, and the fix.
        requires: the names in `requires` of a Resource, as far as they are readable: what its bookings need
            must not be stopped because of another field.
        warm_up: the field `warm_up` of a Resource, for the same reason; empty if it is not a text.
    """

    message: str
    requires: tuple[str, ...] = ()
    warm_up: str = ""


def describe_errors(error: ValidationError, *root: str) -> str:
    """Describe validation errors, each with the path of its field below `root`.

    The text leaves out the input, which may be secret. Its length is limited, because the cache keeps it with
    each invalid object.
    """
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]:
        field = ".".join(str(part) for part in (*root, *problem["loc"]))
        problems.append(_truncate(f"{field}: {problem['msg'].removeprefix('Value error, ')}"))
    more = error.error_count() - _MAX_ERRORS
    return "; ".join([*problems, f"and {more} more"] if more > 0 else problems)


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_ERROR_LENGTH else f"{text[: _MAX_ERROR_LENGTH - 1]}…"


def or_invalid(spec: type) -> PlainValidator:
    """Return a validator that reads a spec, or returns `InvalidSpec` if it breaks the schema."""
    adapter: TypeAdapter[Any] = TypeAdapter(spec)

    def parse(value: Any) -> Any:
        if isinstance(value, InvalidSpec):
            return value  # a copy of an object with another status
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            warm_up = value.get("warm_up") if isinstance(value, Mapping) else None
            return InvalidSpec(
                describe_errors(error, "spec"),
                _readable_names(value),
                warm_up if isinstance(warm_up, str) else "",
            )

    return PlainValidator(parse)


def _readable_names(value: Any) -> tuple[str, ...]:
    """Return the names in the field `requires` of a spec that breaks the schema."""
    names = value.get("requires") if isinstance(value, Mapping) else None
    if not isinstance(names, list | tuple):
        return ()
    readable = (name for name in names[:_MAX_NAMES] if isinstance(name, str) and name)
    return tuple(dict.fromkeys(readable))


def _parse_or_default(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(value)
    except ValidationError:
        return parse({})


EMPTY_IF_INVALID = WrapValidator(_parse_or_default)
"""Reads a status that breaks the schema as an empty status. The operator then writes it again."""


def merge_conditions(
    previous: Sequence[Condition], verdicts: Sequence[ConditionUpdate], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the new conditions. A condition with an unchanged `status` keeps its transition time."""
    known, at = {condition.type: condition for condition in previous}, format_utc(now.replace(microsecond=0))
    return tuple(_transition(known.get(verdict.type), verdict, generation, at) for verdict in verdicts)


def _transition(previous: Condition | None, verdict: ConditionUpdate, generation: int, at: str) -> Condition:
    status: Literal["True", "False", "Unknown"] = (
        "Unknown" if verdict.status is None else "True" if verdict.status else "False"
    )
    if previous is not None and previous.status == status and previous.last_transition_time:
        told = (previous.reason, previous.message, previous.observed_generation)
        if told == (verdict.reason, verdict.message, generation):
            return previous
        at = previous.last_transition_time
    return Condition(
        type=verdict.type,
        status=status,
        reason=verdict.reason,
        message=verdict.message,
        last_transition_time=at,
        observed_generation=generation,
    )


def find_condition(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """Return the condition of a type; None when there is none."""
    return next((condition for condition in conditions if condition.type == type_), None)


def first_failure(conditions: Sequence[Condition], *types: str) -> Failure | None:
    """Return the first condition of `types` that is False, as a failure; None when there is none."""
    for type_ in types:
        condition = find_condition(conditions, type_)
        if condition is not None and condition.status == "False":
            return Failure(condition.reason, condition.message)
    return None
