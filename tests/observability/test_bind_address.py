"""The parsing of bind addresses in flags."""

import pytest

from booking_operator.observability.bind_address import BindAddress


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        ("[::1]:8080", "::1", 8080),
        ("[::]:65535", "::", 65535),
    ],
)
def test_addresses_are_parsed_and_formatted(text: str, host: str, port: int) -> None:
    address = BindAddress.parse(text)
    assert address == BindAddress(host, port)
    assert str(address) == text


def test_zero_means_no_server() -> None:
    assert BindAddress.parse("0") is None


@pytest.mark.parametrize(
    "text", ["", "8080", "localhost", ":", ":http", ":65536", "::1:8080", ":-1", ":\uff18"]
)
def test_an_invalid_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="use a value like :8080"):
        BindAddress.parse(text)
