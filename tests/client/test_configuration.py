from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from wshost.client.configuration import Files, read
from wshost.results import ConfigurationError


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """Files of an authority and of a certificate: its own, its key's, and both in one; one is empty."""
    ca = trustme.CA()
    issued = ca.issue_cert("client")
    ca.cert_pem.write_to_path(tmp_path / "ca")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    (tmp_path / "empty").write_text("")
    return {name: str(tmp_path / name) for name in ("ca", "cert", "key", "both", "empty", "nothing")}


@pytest.mark.parametrize(
    "url", ["nats://127.0.0.1", ["tls://a", "tls://b:1"], "redis+sentinel://a/main", "redis+cluster://a,b"]
)
def test_urls_are_those_of_the_backplanes(url: Any) -> None:
    told = read(url, "wshost", Files(), 5)
    assert told.timeout == 5
    assert told.converse() is not told.converse()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"url": "amqp://a"}, "no client knows amqp://; there are: nats, redis,"),
        ({"url": "nats"}, "is no URL"),
        ({"url": []}, "no broker is named"),
        ({"url": "redis+sentinel://a"}, "must name the master"),
        ({"cluster": "a.b"}, "'a.b' is no name"),
        ({"timeout": 0}, "0 is no time to wait: at most 300 seconds"),
        ({"timeout": 301}, "301 is no time to wait"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(more: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"url": "nats://a", "cluster": "wshost", "files": Files(), "timeout": 5, **more}
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        read(**given)
    assert "\n" not in str(raised.value)


def test_without_files_the_authorities_of_the_system_are_trusted() -> None:
    told = read("tls://a", "wshost", Files(), 5)
    assert told.tls() is told.tls()
    assert told.tls().check_hostname


@pytest.mark.parametrize("shown", [("cert", "key"), ("both", None)])
def test_the_files_of_tls_are_read_at_once(paths: dict[str, str], shown: tuple[str, str | None]) -> None:
    cert, key = shown
    told = read("tls://a", "wshost", Files(paths["ca"], paths[cert], key and paths[key]), 5)
    assert len(told.tls().get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ({"ca": "nothing"}, "nothing: No such file or directory"),
        ({"ca": "empty"}, r"empty: there is no certificate \(PEM\) in it"),
        ({"cert": "nothing"}, "nothing: No such file or directory"),
        ({"cert": "cert", "key": "nothing"}, "nothing: No such file or directory"),
        ({"cert": "cert"}, "cert: there is no certificate with its private key"),
        ({"cert": "empty", "key": "key"}, "key: there is no certificate with its private key"),
    ],
)
def test_a_file_that_is_wrong_is_named(paths: dict[str, str], names: dict[str, str], complaint: str) -> None:
    files = Files(**{option: paths[name] for option, name in names.items()})
    with pytest.raises(ConfigurationError, match=complaint):
        read("nats://a", "wshost", files, 5)
