"""Converts rows in the form of the AWS CLI into what a service of the query or JSON protocol answers."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

from botocore.model import ListShape, Shape, StructureShape
from botocore.session import get_session
from botocore.validate import ParamValidator


def to_json(service: str, action: str, answer: Mapping[str, Any]) -> bytes:
    """Return the response of `action` with the content `answer`, as `to_xml` does."""
    _shape(service, action, answer)
    return json.dumps(answer).encode()


def to_xml(service: str, action: str, answer: Mapping[str, Any]) -> bytes:
    """Return the response of `action` with the content `answer`.

    Raises:
        AssertionError: a field of the answer is unknown, or has another type in the service model.
    """
    model, shape = _model(service), _shape(service, action, answer)
    namespace = model.metadata.get("xmlNamespace", "")
    root = ET.Element(f"{action}Response", {"xmlns": namespace})
    _write(root, shape, answer, f"{action}Result")
    return ET.tostring(root)


def _shape(service: str, action: str, answer: Mapping[str, Any]) -> Any:
    shape = _model(service).operation_model(action).output_shape
    report = ParamValidator().validate(answer, shape)
    assert not report.has_errors(), report.generate_report()
    return shape


@cache
def _model(service: str) -> Any:
    return get_session().get_service_model(service)


def _write(parent: ET.Element, shape: Shape, value: Any, name: str) -> None:
    if isinstance(shape, ListShape):
        flattened = shape.serialization.get("flattened", False)
        holder = parent if flattened else ET.SubElement(parent, name)
        for item in value:
            _write(
                holder,
                shape.member,
                item,
                name if flattened else shape.member.serialization.get("name", "member"),
            )
        return
    element = ET.SubElement(parent, name)
    if isinstance(shape, StructureShape):
        for key, item in value.items():
            member = shape.members[key]
            _write(element, member, item, member.serialization.get("name", key))
    else:
        element.text = str(value).lower() if isinstance(value, bool) else str(value)
