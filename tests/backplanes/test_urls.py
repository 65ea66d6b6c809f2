from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wshost.backplanes import urls
from wshost.backplanes.settings import Broker
from wshost.results import ConfigurationError


def read(*given: str) -> list[Broker]:
    return list(urls.read(given, 4222, tls=False))


class TestRead:
    @pytest.mark.parametrize(
        ("url", "broker"),
        [
            ("nats://10.0.0.5", Broker("10.0.0.5", 4222)),
            ("nats://a.example.com:1", Broker("a.example.com", 1)),
            ("nats://[::1]:65535", Broker("::1", 65_535)),
            ("nats://[2001:db8::1]", Broker("2001:db8::1", 4222)),
            ("nats://me@a", Broker("a", 4222, "me")),
            ("nats://me:@a", Broker("a", 4222, "me", "")),
            ("nats://me:pass:word@a", Broker("a", 4222, "me", "pass:word")),
            ("redis://:p%40%2F%3f@a", Broker("a", 4222, None, "p@/?")),
            ("redis://a/0?one=1&two=%20", Broker("a", 4222, path="0", query=(("one", "1"), ("two", " ")))),
            ("redis://a/", Broker("a", 4222)),
            ("redis://a?x=1", Broker("a", 4222, query=(("x", "1"),))),
        ],
    )
    def test_a_url_names_a_broker(self, url: str, broker: Broker) -> None:
        assert read(url) == [broker]

    def test_a_url_may_name_several_and_so_may_several_urls(self) -> None:
        brokers = urls.read(["nats://u:p@a:1,[::1],b", "nats://c"], 7, tls=True)
        assert [(one.host, one.port, one.username, one.tls) for one in brokers] == [
            ("a", 1, "u", True),
            ("::1", 7, "u", True),
            ("b", 7, "u", True),
            ("c", 7, None, True),
        ]

    def test_so_many_brokers_may_be_named(self) -> None:
        assert len(read("nats://" + ",".join("a" * urls.MOST))) == urls.MOST
        with pytest.raises(ConfigurationError, match=r"^backplane: 65 brokers are too many: name 64 at most$"):
            read("nats://" + ",".join("a" * urls.MOST), "nats://b")

    @pytest.mark.parametrize(
        "hosts", ["a:0", "a:65536", "a:x", "a,,b", "a,", "ü", "a b", "[::1", "[x]", "a:", "a:1:2", "a\n"]
    )
    def test_what_is_no_host_with_a_port_is_named(self, hosts: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^backplane: 'nats://.*' is no host with a port$"):
            read(f"nats://{hosts}")


class TestSchemes:
    def test_all_urls_have_one_scheme(self) -> None:
        assert urls.scheme_of(["nats://a", "nats://b,c"]) == "nats"
        with pytest.raises(ConfigurationError, match=r"^backplane: all brokers belong to one cluster, not to a and b$"):
            urls.scheme_of(["b://a", "a://b"])

    @pytest.mark.parametrize(
        "url", ["", "a", "nats:a", "nats://", "://a", "NATS://a", "1://a", "nats:///x", "n ats://a"]
    )
    def test_another_text_is_no_url(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"is no URL, such as nats://127\.0\.0\.1:4222$"):
            urls.scheme_of([url])


class TestPasswords:
    @pytest.mark.parametrize(
        "url",
        [
            "nats://me:secret@a:0",
            "nats://me:secret@",
            "nats://me:secret@a#x",
            "nats://me:se/secret@a",
            "nats://me:se?secret@a",
            "nats://me:se#secret@a",
            "nats://me:se@secret@a",
            "nats://me:se\nsecret@a:0",
            "nats://me:secret@a,me:secret@b",
        ],
    )
    def test_no_message_has_a_password_even_one_that_is_not_written_as_it_should_be(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            read(url)
        message = str(caught.value)
        assert "secret" not in message
        assert message.startswith("backplane: ")
        assert "\n" not in message

    @pytest.mark.parametrize(
        ("url", "shown"), [("nats://a", "nats://a"), ("nats://u:p@a/x", "nats://a/x"), ("nats://u:p@q@a", "nats://a")]
    )
    def test_a_url_is_shown_without_its_user(self, url: str, shown: str) -> None:
        assert urls.shown(url) == shown


@settings(derandomize=True, max_examples=150, deadline=None, database=None)
@given(st.text() | st.text("nats:/@,[]?#%&=.1\n").map("nats://".__add__))
def test_any_text_names_brokers_or_is_one_line_of_what_is_wrong(url: str) -> None:
    try:
        brokers = read(url)
    except ConfigurationError as error:
        message = str(error)
    else:
        message = ""
        assert brokers
        assert all(0 < broker.port < 1 << 16 and broker.host for broker in brokers)
    assert "\n" not in message
