"""The HTTP session with an API server: certificates, proxies, and imports."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from kubernetes_asyncio.client.configuration import Configuration

from booking_operator.kube.http_session import open_session, ssl_context
from booking_operator.kube.kubeconfig import ConfigError

HOST = "https://kube.example.com:6443"


def configured(**settings: object) -> Configuration:
    configuration = Configuration()
    for name, value in {"host": HOST, **settings}.items():
        setattr(configuration, name, value)
    return configuration


def test_a_client_certificate_is_loaded(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    files = {"ssl_ca_cert": str(tmp_path / "ca.crt"), "cert_file": str(tmp_path / "me.pem")}
    context = ssl_context(configured(**files, key_file=str(tmp_path / "me.pem")))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_verification_can_be_turned_off() -> None:
    assert ssl_context(configured(verify_ssl=False)).verify_mode is ssl.CERT_NONE


def test_a_missing_certificate_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.crt"):
        ssl_context(configured(ssl_ca_cert=str(tmp_path / "missing.crt")))


@pytest.mark.parametrize(
    ("environ", "settings", "proxy"),
    [
        ({}, {}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, {}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example.com"}, {}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {"proxy": "http://mine:1"}, "http://mine:1"),
    ],
)
async def test_the_proxy_comes_from_the_kubeconfig_or_the_environment(
    environ: dict[str, str], settings: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    async with open_session(configured(**settings)) as session:
        found = vars(session)["_default_proxy"]
    assert (str(found).rstrip("/") if found else None) == proxy


def test_no_generated_model_of_kubernetes_is_imported() -> None:
    program = """
import sys
import booking_operator.operator
print(sum(name.startswith("kubernetes_asyncio.client.") for name in sys.modules))
"""
    counted = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(counted.stdout) < 10
