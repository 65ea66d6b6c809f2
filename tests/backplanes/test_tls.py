from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.backplanes.surroundings import settings
from tests.certificates import pem, self_signed
from wshost.backplanes.tls import ClientTLS
from wshost.results import ConfigurationError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate, its key, both in one file; another key; and what is neither."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    contents = {
        "cert": self_signed(key),
        "key": pem(key),
        "both": self_signed(key) + pem(key),
        "other": pem(other),
        "none": b"none",
        "damaged": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in (*contents, "missing")}


@pytest.mark.parametrize(
    "names", [{}, {"ca": "cert"}, {"cert": "cert", "key": "key"}, {"ca": "cert", "cert": "both"}], ids=str
)
def test_options_are_for_the_host(files: dict[str, str], names: dict[str, str]) -> None:
    tls = ClientTLS(settings(**{name: files[file] for name, file in names.items()}))
    options: Any = tls.options("example.com")
    assert options._hostname == "example.com"


@pytest.mark.parametrize(
    ("names", "wrong", "error"),
    [
        ({"ca": "missing"}, "missing", "No such file or directory"),
        ({"ca": "none"}, "none", "there is no certificate (PEM) in it"),
        ({"ca": "damaged"}, "damaged", "a certificate in it is damaged"),
        ({"cert": "missing"}, "missing", "No such file or directory"),
        ({"cert": "cert"}, "cert", "there is no private key (PEM, without a passphrase) in it"),
        ({"cert": "cert", "key": "none"}, "none", "there is no private key (PEM, without a passphrase) in it"),
        ({"cert": "cert", "key": "missing"}, "missing", "No such file or directory"),
        ({"cert": "cert", "key": "other"}, "other", "the private key is not that of the certificate"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(files: dict[str, str], names: dict[str, str], wrong: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ClientTLS(settings(**{name: files[file] for name, file in names.items()}))
    assert str(raised.value) == f"{files[wrong]}: {error}"
