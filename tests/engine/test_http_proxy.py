"""The proxy for a URL, compared with the Go package that client-go uses.

`go run ./httpproxy` in `tests/go` makes the table.
"""

from pathlib import Path

import pytest

from booking_operator.engine.http_proxy import proxy_for

TABLE = (Path(__file__).parent / "httpproxy.tsv").read_text().splitlines()


def test_the_proxy_is_the_one_that_client_go_uses() -> None:
    wrong = []
    for line in TABLE:
        http, https, no_proxy, url, proxy = line.split("\t")
        environ = {"HTTP_PROXY": http, "HTTPS_PROXY": https, "NO_PROXY": no_proxy}
        found = proxy_for(url, environ) or ""
        if found != proxy:
            wrong.append((no_proxy, url, proxy, found))
    assert wrong == []
    assert len(TABLE) > 4000


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({"https_proxy": "http://lower.test"}, "http://lower.test"),
        ({"https_proxy": "http://lower.test", "HTTPS_PROXY": "http://upper.test"}, "http://upper.test"),
        ({"HTTP_PROXY": "http://upper.test"}, None),
        ({"HTTPS_PROXY": "http://upper.test", "no_proxy": "10.0.0.0/8"}, None),
    ],
)
def test_the_names_of_the_variables(environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for("https://10.0.0.1:6443/", environ) == proxy
