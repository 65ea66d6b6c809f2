from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from wshost.results import ConfigurationError
from wshost.settings import options
from wshost.settings.options import MODULES, OPTIONS, Settings, check, module_options, settle

#: Every option that has a value by default, with where it stands.
DEFAULTED = [
    (f"{place}{name}", option)
    for place, known in {"": OPTIONS, **{f"{module}: ": known for module, known in MODULES.items()}}.items()
    for name, option in known.items()
    if option.default not in (None, (), {})
]


class TestTheTable:
    def test_each_option_of_the_command_is_named_as_in_the_settings(self) -> None:
        assert [getattr(Settings, name) for name in OPTIONS] == list(OPTIONS.values())
        assert [option.name for option in OPTIONS.values()] == list(OPTIONS)

    def test_groups_of_the_help_begin_with_options_of_the_command(self) -> None:
        assert [name for name in OPTIONS if name in options.GROUPS] == list(options.GROUPS)
        assert next(iter(OPTIONS)) in options.GROUPS

    def test_only_options_of_the_command_have_a_name(self) -> None:
        of_modules = [option for known in MODULES.values() for option in known.values()]
        assert [one for one in of_modules if one.name and OPTIONS[one.name] is not one] == []

    @pytest.mark.parametrize(("name", "option"), DEFAULTED)
    def test_a_default_is_a_value_of_its_kind(self, name: str, option: options.Option[Any]) -> None:
        given = list(option.default) if option.kind.repeatable else option.default
        assert option.kind.check(given) == given, name

    def test_repeatable_options_of_the_command_say_so(self) -> None:
        said = {name for name, option in OPTIONS.items() if option.help.endswith(" Repeatable.")}
        assert said == {name for name, option in OPTIONS.items() if option.kind.repeatable}

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("port", "8080"),
            ("max_output", "1MiB"),
            ("ping_interval", "20"),
            ("protocol_module", "http, websocket"),
            ("tls_key", "in the certificate's file"),
            ("origin", ""),
            ("handler", ""),
        ],
    )
    def test_defaults_are_shown_as_one_would_write_them(self, name: str, shown: str) -> None:
        assert OPTIONS[name].shown == shown

    @pytest.mark.parametrize(("variable", "fast"), [("off", False), ("on", True)])
    def test_the_environment_turns_the_fast_lane_off(self, variable: str, fast: bool) -> None:
        code = "from wshost.settings.options import MODULES; print(MODULES['websocket']['fast_lane'].default)"
        environment = {**os.environ, "WSHOST_FAST_LANE": variable}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{fast}\n"


class TestSettings:
    def test_settings_that_were_not_given_have_their_defaults(self) -> None:
        settings = Settings(port=80)
        assert (settings.port, settings.interface) == (80, "127.0.0.1")
        assert {name: getattr(Settings(), name) for name in OPTIONS} == {
            name: option.default for name, option in OPTIONS.items()
        }

    def test_settings_know_which_were_given(self) -> None:
        assert Settings().given == {}
        assert Settings(port=8080, compress=False).given == {"port": 8080, "compress": False}

    def test_a_setting_of_none_was_not_given(self) -> None:
        assert Settings(handler=None) == Settings()

    def test_settings_take_no_other_names(self) -> None:
        with pytest.raises(TypeError, match=r"^no options: prot$"):
            Settings(prot=80)


class TestCheck:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("port", 80, {"port": 80}),
            ("max-message-size", "64KiB", {"max_message_size": 65_536}),
            ("max_message_size", 65_536, {"max_message_size": 65_536}),
            ("ping-interval", 0, {"ping_interval": 0.0}),
            ("protocol_modules", ["http"], {"protocol_module": [("http", {})]}),
            ("protocol_modules_options", ["http"], {"protocol_module": [("http", {})]}),
            ("number_of_workers", 10, {"max_connections": 10}),
        ],
    )
    def test_options_are_found_by_each_of_their_names(self, name: str, value: Any, expected: dict[str, Any]) -> None:
        assert check({name: value}) == expected

    @pytest.mark.parametrize(
        ("name", "value", "complaint"),
        [
            ("prot", 80, "unknown option 'prot'; did you mean port?"),
            ("max-conections", 80, "unknown option 'max-conections'; did you mean max-connections?"),
            ("max_conections", 80, "unknown option 'max_conections'; did you mean max_connections?"),
            ("xyzzy", 80, "unknown option 'xyzzy'"),
            ("max_fragments", 80, "unknown option 'max_fragments'"),
            ("port", 65536, "port: 65536 is not a whole number from 0 to 65535"),
            ("number_of_workers", 0, "number_of_workers: 0 is not a whole number from 1 to 10000000"),
        ],
    )
    def test_a_wrong_option_is_said_in_one_line_and_known_by_its_name(
        self, name: str, value: Any, complaint: str
    ) -> None:
        with pytest.raises(options.WrongOption) as caught:
            check({"compress": True, name: value})
        assert (caught.value.key, str(caught.value)) == (name, complaint)

    def test_an_option_given_by_two_names_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^number_of_workers is given twice, by two names$"):
            check({"max_connections": 1, "number_of_workers": 1})


class TestTheOptionsOfAModule:
    @pytest.mark.parametrize("module", MODULES)
    def test_a_modules_options_have_their_defaults(self, module: str) -> None:
        assert module_options(module, {}) == {name: option.default for name, option in MODULES[module].items()}

    def test_a_modules_options_are_read_as_those_of_the_command_are(self) -> None:
        given = {"max_message_size": "64KiB", "compress": True, "ping-interval": 0}
        found = module_options("websocket", given)
        assert (found["max_message_size"], found["compress"], found["ping_interval"]) == (65_536, True, 0.0)
        assert given == {"max_message_size": "64KiB", "compress": True, "ping-interval": 0}

    @pytest.mark.parametrize(
        ("module", "given", "complaint"),
        [
            ("websocket", {"max_message_size": "x"}, "max_message_size: 'x' is not a size from 1 to 2147483648, such "),
            ("websocket", {"max_size": 1}, "unknown option 'max_size'; did you mean max_frame_size?"),
            ("websocket", {"port": 1}, "unknown option 'port'"),
            ("http", {"timeout": 0}, "timeout: 0 is not a number of seconds from 0.001 to 86400"),
            ("http", {1: 2}, "1 is not a name"),
            ("factory", {"a": 1}, "unknown option 'a'"),
        ],
    )
    def test_a_wrong_option_of_a_module_is_said_with_the_module(self, module: str, given: Any, complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            module_options(module, given)
        assert str(caught.value).startswith(f"{module}: {complaint}")


class TestSettle:
    def test_options_that_were_given_become_settings(self) -> None:
        assert settle({"port": 0, "origin": ["*"]}) == Settings(port=0, origin=["*"])

    def test_the_command_line_wins_over_the_file(self) -> None:
        file = {"port": 1, "handler": "a", "origin": ["https://a", "https://b"]}
        assert settle(file, {"port": 2, "origin": ["https://c"]}) == Settings(port=2, handler="a", origin=["https://c"])

    @pytest.mark.parametrize("over", [{"port": 2}, {"interface": "::"}])
    def test_a_port_of_the_command_line_wins_over_endpoints(self, over: dict[str, Any]) -> None:
        assert settle({"listen": ["tcp:1"]}, over) == Settings(**over)

    def test_endpoints_of_the_command_line_win_over_a_port(self) -> None:
        assert settle({"port": 1, "interface": "::"}, {"listen": ["tcp:2"]}) == Settings(listen=["tcp:2"])

    @pytest.mark.parametrize("name", ["port", "interface"])
    def test_a_port_beside_endpoints_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^listen replaces port and interface: "):
            settle({}, {"listen": ["tcp:2"], name: 1})

    def test_an_empty_list_of_endpoints_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^listen: an empty list"):
            settle({"listen": []})

    @pytest.mark.parametrize(("name", "shown"), [("tls_key", "tls-key"), ("tls_client_ca", "tls-client-ca")])
    def test_tls_without_a_certificate_is_refused(self, name: str, shown: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^{shown} needs tls-cert$"):
            settle({name: ["file.pem"]})
        assert settle({"tls_cert": ["cert.pem"], name: ["file.pem"]}).tls_cert == ["cert.pem"]

    def test_certificates_and_keys_of_different_numbers_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^tls-cert names 2 and tls-key 1: give each certificate its key"):
            settle({"tls_cert": ["a.pem", "b.pem"], "tls_key": ["a.key"]})
        assert settle({"tls_cert": ["a.pem", "b.pem"]}).tls_key == ()
        assert settle({"tls_cert": ["a.pem", "b.pem"], "tls_key": ["a.key", "b.key"]}).tls_key == ["a.key", "b.key"]

    @pytest.mark.parametrize("given", [{"max_output_total": (1 << 20) - 1}, {"max_output_total": 1, "max_output": 2}])
    def test_less_output_for_all_clients_than_for_one_is_refused(self, given: dict[str, int]) -> None:
        with pytest.raises(ConfigurationError, match=r"^max-output-total must be max-output or more, here \d\w*: "):
            settle(given)

    @pytest.mark.parametrize("given", [{"max_output": 2}, {"max_output_total": 2, "max_output": 2}])
    def test_as_much_output_for_all_clients_as_for_one_is_taken(self, given: dict[str, int]) -> None:
        assert settle(given) == Settings(**given)

    @pytest.mark.parametrize("given", [{"drain_spread": 9}, {"drain_spread": 1, "drain_timeout": 1}])
    def test_a_spread_that_leaves_no_time_to_answer_is_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"^drain-spread must be shorter than 90 % of drain-timeout$"):
            settle(given)

    @pytest.mark.parametrize("given", [{"drain_spread": 8.9}, {"drain_timeout": 0}])
    def test_a_spread_that_leaves_time_to_answer_is_taken(self, given: dict[str, Any]) -> None:
        assert settle(given) == Settings(**given)
