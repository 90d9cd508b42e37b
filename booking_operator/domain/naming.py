"""Names of the Resources that a monitor creates: valid for Kubernetes, and unique for each group."""

import hashlib
import re
from collections.abc import Iterator, Mapping

TEMPLATE_PATTERN = r"^([a-z0-9.-]|\{(tag|type|region|account)\})+$"
FALLBACK_TEMPLATE = "{type}.{tag}"
"""The template for a group whose preferred name is taken. The Go operator names all Resources like this."""

_MAX_LENGTH = 253
_HASH_LENGTH = 8
# RFC 1123 subdomain: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def check_template(template: str) -> None:
    """Validate a name template.

    Raises:
        ValueError: the template has a character that names must not contain, or lacks `{tag}`, so that
            several groups would get the same name.
    """
    if not re.fullmatch(TEMPLATE_PATTERN, template):
        text = "use {tag}, {type}, {region}, {account}, lowercase letters, digits, '-' and '.'"
        raise ValueError(f"{template!r} is not a valid name template; {text}")
    if "{tag}" not in template:
        raise ValueError(f"{template!r} must contain {{tag}}; otherwise all groups would have the same name")


def name_candidates(template: str, group: Mapping[str, str]) -> Iterator[str]:
    """Yield names for a group, the preferred name first. The last name is unique to the group.

    Args:
        template: a template that passes `check_template`.
        group: `tag`, `type`, `region` and `account` of the group.
    """
    yield sanitize_name(template.format_map(group))
    plain = sanitize_name(FALLBACK_TEMPLATE.format_map(group))
    yield plain
    whole = "/".join(group[part] for part in ("type", "account", "region", "tag"))
    yield _with_hash(plain, whole)


def sanitize_name(name: str) -> str:
    """Return `name` if Kubernetes allows it, otherwise an allowed name with a hash of `name`."""
    return name if is_object_name(name) else _with_hash(name, name)


def is_object_name(name: str) -> bool:
    """Whether Kubernetes allows a name for most kinds of objects."""
    return len(name) <= _MAX_LENGTH and bool(_SUBDOMAIN.fullmatch(name))


def _with_hash(name: str, whole: str) -> str:
    plain = re.sub(r"[^a-z0-9.-]+", "-", name.lower())
    plain = re.sub(r"[.-]*\.[.-]*", ".", plain)[: _MAX_LENGTH - _HASH_LENGTH - 1].strip(".-")
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{plain}-{digest}" if plain else f"group-{digest}"
