from __future__ import annotations

from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wshost.backplanes.nats_credentials import proof
from wshost.backplanes.settings import Broker
from wshost.results import ConfigurationError

#: A user's key that NATS' own tool would make of 32 bytes "u": the seed, and the public key.
SEED = "SUAHK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5MT74"
CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0.eyJq.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


def verified(signature: str, nonce: str) -> bool:
    """Whether it is the signature of the key of `SEED`."""
    raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    Ed25519PrivateKey.from_private_bytes(b"u" * 32).public_key().verify(raw, nonce.encode())
    return True


@pytest.mark.parametrize(
    ("broker", "fields"),
    [
        (Broker("a", 1), {}),
        (Broker("a", 1, "me", "secret"), {"user": "me", "pass": "secret"}),
        (Broker("a", 1, None, "secret"), {"user": "", "pass": "secret"}),
        (Broker("a", 1, "t0ken"), {"auth_token": "t0ken"}),
    ],
)
def test_a_url_has_a_user_and_a_password_or_a_token(broker: Broker, fields: dict[str, str]) -> None:
    assert proof(broker, None, "nonce") == fields


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "user.creds"

    def test_a_file_with_a_jwt_signs_the_nonce_with_its_seed(self, file: Path) -> None:
        file.write_text(CREDS)
        fields = proof(Broker("a", 1, "me", "secret"), str(file), "nonce")
        assert fields.keys() == {"jwt", "sig"}
        assert fields["jwt"] == "eyJ0.eyJq.c2ln"
        assert verified(fields["sig"], "nonce")

    def test_a_file_with_a_seed_alone_also_names_the_public_key(self, file: Path) -> None:
        file.write_text(SEED + "\n")
        fields = proof(Broker("a", 1), str(file), "nonce")
        assert fields.keys() == {"nkey", "sig"}
        assert fields["nkey"].startswith("U")
        assert len(fields["nkey"]) == 56
        assert verified(fields["sig"], "nonce")

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (b"", "there is no seed of a user's nkey in it"),
            (b"\xff", "these are no credentials of NATS"),
            (b"SUAAA", "the seed of the nkey in it is damaged, or not a user's"),
            (b"SUA", "the seed of the nkey in it is damaged, or not a user's"),
            (b"SU", "the seed of the nkey in it is damaged, or not a user's"),
            (SEED.replace("K5L", "K5M", 1).encode(), "the seed of the nkey in it is damaged, or not a user's"),
        ],
    )
    def test_a_wrong_file_is_told_in_one_line(self, file: Path, content: bytes, error: str) -> None:
        file.write_bytes(content)
        with pytest.raises(ConfigurationError) as raised:
            proof(Broker("a", 1), str(file), "nonce")
        assert str(raised.value) == f"{file}: {error}"

    def test_the_seed_of_an_account_is_refused(self, file: Path) -> None:
        file.write_text("SAAGCYLBMFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLMCI")
        with pytest.raises(ConfigurationError, match="damaged, or not a user's"):
            proof(Broker("a", 1), str(file), "nonce")

    def test_a_missing_file_is_told_in_one_line(self, file: Path) -> None:
        with pytest.raises(ConfigurationError) as raised:
            proof(Broker("a", 1), str(file), "nonce")
        assert str(raised.value) == f"{file}: No such file or directory"
