from __future__ import annotations

from typing import Any

import pytest

from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS, Settings, check, check_all, settle


class TestTheTable:
    def test_has_every_field_of_the_settings(self) -> None:
        assert list(OPTIONS) == list(Settings.__dataclass_fields__)

    def test_defaults_to_what_the_help_says(self) -> None:
        settings = Settings()
        assert (settings.port, settings.interface) == (8080, "127.0.0.1")
        assert (OPTIONS["port"].default, OPTIONS["interface"].default) == ("8080", "127.0.0.1")

    @pytest.mark.parametrize("name", sorted(OPTIONS.keys() - {"port", "interface"}))
    def test_leaves_the_other_defaults_to_the_parts(self, name: str) -> None:
        assert getattr(Settings(), name) is None


class TestCheck:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("port", 80, ("port", 80)),
            ("max-message-size", "64KiB", ("max_message_size", 65_536)),
            ("max_message_size", 65_536, ("max_message_size", 65_536)),
            ("protocol_modules", ["http"], ("protocol_module", [("http", {})])),
            ("protocol_modules_options", ["http"], ("protocol_module", [("http", {})])),
            ("number_of_workers", 10, ("max_connections", 10)),
        ],
    )
    def test_finds_the_option(self, name: str, value: Any, expected: tuple[str, Any]) -> None:
        assert check(name, value) == expected

    @pytest.mark.parametrize(
        ("name", "value", "complaint"),
        [
            ("prot", 80, "unknown option 'prot'; did you mean port?"),
            ("max-conections", 80, "unknown option 'max-conections'; did you mean max-connections?"),
            ("xyzzy", 80, "unknown option 'xyzzy'"),
            ("port", 65536, "port: 65536 is not a whole number from 0 to 65535"),
            ("number_of_workers", 0, "number_of_workers: 0 is not a whole number from 1 to 10000000"),
        ],
    )
    def test_says_in_one_line_what_is_wrong(self, name: str, value: Any, complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check(name, value)
        assert str(caught.value) == complaint

    def test_takes_a_table(self) -> None:
        assert check_all({"port": 0, "ping-interval": 0}) == {"port": 0, "ping_interval": 0.0}

    def test_refuses_one_option_under_two_names(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^number_of_workers is there twice, under different names$"):
            check_all({"max_connections": 1, "number_of_workers": 1})


class TestSettle:
    def test_keeps_what_was_given(self) -> None:
        assert settle({"port": 0, "origin": ["*"]}) == Settings(port=0, origin=["*"])

    def test_lets_the_command_line_win(self) -> None:
        file = {"port": 1, "handler": "a", "origin": ["https://a", "https://b"]}
        assert settle(file, {"port": 2, "origin": ["https://c"]}) == Settings(port=2, handler="a", origin=["https://c"])

    @pytest.mark.parametrize("over", [{"port": 2}, {"interface": "::"}])
    def test_lets_a_port_win_over_endpoints(self, over: dict[str, Any]) -> None:
        assert settle({"listen": ["tcp:1"]}, over) == Settings(**over)

    def test_lets_endpoints_win_over_a_port(self) -> None:
        assert settle({"port": 1, "interface": "::"}, {"listen": ["tcp:2"]}) == Settings(listen=["tcp:2"])

    @pytest.mark.parametrize("name", ["port", "interface"])
    def test_refuses_a_port_beside_endpoints(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^listen replaces port and interface: "):
            settle({}, {"listen": ["tcp:2"], name: 1})

    def test_refuses_to_listen_nowhere(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^listen: an empty list"):
            settle({"listen": []})

    @pytest.mark.parametrize(("name", "shown"), [("tls_key", "tls-key"), ("tls_client_ca", "tls-client-ca")])
    def test_refuses_tls_without_a_certificate(self, name: str, shown: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^{shown} is of no use without tls-cert$"):
            settle({name: "file.pem"})
        assert settle({"tls_cert": "cert.pem", name: "file.pem"}).tls_cert == "cert.pem"
