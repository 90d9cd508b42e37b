"""The requests that the local board answers."""

import pytest
from multidict import CIMultiDict

from booking_operator.board.security import HEADERS, AccessRules, new_token

HOST, TOKEN = "127.0.0.1:41234", "t" * 43
RULES = AccessRules(HOST, TOKEN)
READ = {"host": HOST, "authorization": f"Bearer {TOKEN}"}
WRITE = READ | {
    "origin": f"http://{HOST}",
    "sec-fetch-site": "same-origin",
    "content-type": "application/json; charset=utf-8",
}


def status(method: str, path: str, headers: dict[str, str], rules: AccessRules = RULES) -> int:
    found = rules.refusal(method, path, CIMultiDict(headers))
    return found.status if found else 200


def test_the_page_itself_needs_no_token() -> None:
    assert status("GET", "/", {"host": HOST}) == 200
    assert status("GET", "/static/board.js", {"host": HOST}) == 200
    assert status("POST", "/", WRITE) == 405


@pytest.mark.parametrize("host", ["", "evil.example", "localhost:41234", "127.0.0.1", "127.0.0.1:41235"])
@pytest.mark.parametrize("path", ["/", "/api/timeline"])
def test_a_host_name_that_was_rebound_is_misdirected(host: str, path: str) -> None:
    assert status("GET", path, READ | {"host": host}) == 421


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer é"]
)
def test_a_missing_or_wrong_token(authorization: str) -> None:
    assert status("GET", "/api/timeline", READ | {"authorization": authorization}) == 401
    assert status("POST", "/api/book", WRITE | {"authorization": authorization}) == 401


def test_reads_and_writes_of_the_page_are_allowed() -> None:
    assert status("GET", "/api/timeline", READ) == 200
    assert status("POST", "/api/book", WRITE) == 200


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", f"https://{HOST}", 403),
        ("origin", None, 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 403),
        ("sec-fetch-site", None, 403),
        ("content-type", "text/plain", 415),
        ("content-type", "application/x-www-form-urlencoded", 415),
        ("content-type", None, 415),
    ],
)
def test_a_write_of_another_page_is_refused(header: str, value: str | None, expected: int) -> None:
    headers = {name: text for name, text in WRITE.items() if name != header}
    assert status("POST", "/api/book", headers | ({header: value} if value is not None else {})) == expected


def test_a_read_only_board_refuses_each_write() -> None:
    rules = AccessRules(HOST, TOKEN, read_only=True)
    assert status("GET", "/api/timeline", READ, rules) == 200
    assert status("POST", "/api/book", WRITE, rules) == 403


def test_tokens_have_32_random_bytes() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert all(len(token) >= 43 for token in (new_token(), new_token()))


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "require-trusted-types-for 'script'" in policy


def test_a_token_of_bytes_that_are_no_text_is_wrong() -> None:
    found = RULES.refusal("GET", "/api/session", {"Host": RULES.host, "Authorization": "Bearer \udcff"})
    assert found is not None
    assert found.status == 401
