"""What every object of the group has: metadata, conditions, and a spec that may be garbled."""

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

from booking_operator.api.fields import SHARED
from booking_operator.domain import conditions
from booking_operator.domain.conditions import Condition as Verdict
from booking_operator.domain.conditions import utc

GROUP = "manager.kotaico.de"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
MADE_BY = f"{GROUP}/monitor"
"""Annotation of a Resource: the monitor that made it."""
DIGEST = f"{GROUP}/template"
"""Annotation of a Booking: what its scheduler made it from."""
_READ, _LONGEST_NAME = (MADE_BY, DIGEST), 253

WIRE = ConfigDict(extra="ignore", populate_by_name=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=WIRE)
class OwnerReference:
    """Whose an object is; it is deleted with its owner."""

    uid: str
    controller: bool = False


_NONE: Mapping[str, str] = {}
_PROBLEMS, _LONGEST_PROBLEM = 10, 300


def _ours(annotations: Any) -> Any:
    """Only those annotations that the operator reads: others can be large, and there are many objects."""
    if not isinstance(annotations, dict):
        return annotations
    return {key: annotations[key] for key in _READ if _short(annotations.get(key))} or _NONE


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _controllers(owners: Any) -> Any:
    """Only the owner that is the controller, for the same reason; the API server allows no more than one."""
    if not isinstance(owners, list):
        return owners
    return [owner for owner in owners if not isinstance(owner, dict) or owner.get("controller")]


@dataclass(frozen=True, slots=True, config=WIRE)
class ObjectMeta:
    """The part of an object's metadata that the operator reads."""

    name: str
    uid: str = ""
    namespace: Annotated[str, SHARED] = ""
    resource_version: str = Field(default="", alias="resourceVersion")
    generation: int = 0
    creation_timestamp: AwareDatetime = Field(
        default=datetime.fromisoformat("1970-01-01T00:00:00Z"), alias="creationTimestamp"
    )
    deletion_timestamp: AwareDatetime | None = Field(default=None, alias="deletionTimestamp")
    finalizers: tuple[str, ...] = ()
    annotations: Annotated[Mapping[str, str], BeforeValidator(_ours)] = Field(default_factory=lambda: _NONE)
    owner_references: Annotated[tuple[OwnerReference, ...], BeforeValidator(_controllers)] = Field(
        default=(), alias="ownerReferences"
    )

    @property
    def controller_uid(self) -> str:
        """The uid of the object that made this one and looks after it; empty where nobody does."""
        return next((owner.uid for owner in self.owner_references if owner.controller), "")


@dataclass(frozen=True, slots=True, config=WIRE)
class LeanMeta(ObjectMeta):
    """Metadata of a kind that the operator needs no finalizers of: an object may have a megabyte of them."""

    finalizers: Annotated[tuple[str, ...], PlainValidator(lambda _: ())] = ()


@dataclass(frozen=True, slots=True, config=WIRE)
class Condition:
    """One observation of the object's state, as the Kubernetes API conventions describe conditions."""

    type: Annotated[str, Field(max_length=316), SHARED]
    """What is observed: Valid, Ready and so on."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024), SHARED] = ""
    """Why, in one CamelCase word that programs can compare."""
    message: Annotated[str, Field(max_length=32768), SHARED] = ""
    """Why, in a sentence."""
    last_transition_time: Annotated[str, Field(alias="lastTransitionTime"), SHARED] = ""
    """When `status` last changed."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this was observed for."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """A spec that was stored although it breaks the schema; `reason` names the fields and the mend."""

    reason: str


def explained(error: ValidationError, *root: str) -> str:
    """What is wrong, each with the path of its field below `root`; without the input, which may be secret.

    It is kept with each object, so it is no longer than a few sentences, whatever is wrong.
    """
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:_PROBLEMS]:
        field = ".".join(str(part) for part in (*root, *problem["loc"]))
        problems.append(_cut(f"{field}: {problem['msg'].removeprefix('Value error, ')}"))
    more = error.error_count() - _PROBLEMS
    return "; ".join([*problems, f"and {more} more"] if more > 0 else problems)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_PROBLEM else f"{text[: _LONGEST_PROBLEM - 1]}…"


def tolerant(spec: type) -> PlainValidator:
    """Reads a spec, or `Garbled` where it breaks the schema, so that one bad object never stops a list."""
    adapter: TypeAdapter[Any] = TypeAdapter(spec)

    def parse(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            return Garbled(explained(error, "spec"))

    return PlainValidator(parse)


def _forgive(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(value)
    except ValidationError:
        return parse({})


FORGIVING = WrapValidator(_forgive)
"""Turns a status that breaks the schema into an empty one: status is ours to write anew."""


def merge_conditions(
    previous: Sequence[Condition], verdicts: Sequence[Verdict], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The new conditions, with the transition time kept wherever `status` did not change."""
    known, at = {condition.type: condition for condition in previous}, utc(now.replace(microsecond=0))
    return tuple(_transition(known.get(verdict.type), verdict, generation, at) for verdict in verdicts)


def _transition(previous: Condition | None, verdict: Verdict, generation: int, at: str) -> Condition:
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


def find(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == type_), None)


def failure(conditions: Sequence[Condition], *types: str) -> conditions.Failure | None:
    """The first of the conditions `types` that is False, as a failure to pass on; None when none is."""
    for type_ in types:
        condition = find(conditions, type_)
        if condition is not None and condition.status == "False":
            return conditions.Failure(condition.reason, condition.message)
    return None
