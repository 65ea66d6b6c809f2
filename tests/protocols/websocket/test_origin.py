import pytest

from wshost.protocols.websocket.origin import Origins
from wshost.results import ConfigurationError


class TestNoOrigin:
    """RFC 6455 §10.2: only browsers send one, and only they carry their user's cookies to strangers."""

    @pytest.mark.parametrize("options", [[], ["null"], ["https://a.example"], ["*"]])
    def test_a_request_without_origin_is_allowed(self, options: list[str]) -> None:
        assert Origins(options).allows(None, "example.com")


class TestSameOrigin:
    """RFC 6454 §5, less the scheme: that of a plain connection may be http or https, in front of a proxy."""

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "example.com:443"),
            ("https://example.com:443", "example.com"),
            ("http://example.com:8080", "example.com:8080"),
            ("HTTP://Example.COM", "eXample.com"),
            ("http://example.com.", "example.com."),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[0:0:0:0:0:0:0:1]", "[::1]"),
            ("https://[2001:DB8::1]", "[2001:db8::1]:443"),
        ],
    )
    def test_the_servers_own_origin_is_allowed(self, origin: str, host: str) -> None:
        assert Origins().allows(origin, host)
        assert Origins(["https://other.example"]).allows(origin, host)

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://evil.example", "example.com"),
            ("http://example.com", "example.com:8080"),
            ("http://example.com:8080", "example.com"),
            ("http://example.com", "example.com:443"),
            ("https://example.com", "example.com:80"),
            ("http://example.com.", "example.com"),
            ("http://example.com", "example.com."),
            ("http://www.example.com", "example.com"),
            ("http://example.com", "www.example.com"),
            ("http://[::1]", "[::2]"),
            ("http://[::1]", "::1"),
            ("ws://example.com", "example.com"),
            ("ftp://example.com", "example.com"),
            ("chrome-extension://example.com", "example.com"),
            ("http://example.com", ""),
            ("http://", ""),
        ],
    )
    def test_another_origin_is_not_allowed(self, origin: str, host: str) -> None:
        assert not Origins().allows(origin, host)


FORGED = [
    "https://good.example.com@evil.example",
    "https://good.example.com:pass@evil.example",
    "https://evil.example@good.example.com",
    "https://good.example.com.evil.example",
    "https://evilgood.example.com",
    "https://good.example.comevil.example",
    "https://good.example.com:444",
    "https://good.example.com:99999",
    "https://good.example.com:4 43",
    "https://good.example.com:+443",
    "https://good.example.com:\u0664\u0664\u0663",
    "https://good.example.com/",
    "https://good.example.com/path",
    "https://good.example.com?",
    "https://good.example.com#",
    "https://good.example.com\\.evil.example",
    "https://good.example.com https://evil.example",
    "https://evil.example https://good.example.com",
    "https://good.example.com,https://evil.example",
    "https://good.example.com, https://good.example.com",
    " https://good.example.com",
    "https://good.example.com ",
    "https://good.example.com\n",
    "https://good.example.com\x00",
    "https://good.example.com.",
    "https:good.example.com",
    "https:/good.example.com",
    "https:///good.example.com",
    "//good.example.com",
    "good.example.com",
    "://good.example.com",
    "*://good.example.com",
    "\u017fttps://good.example.com",
    "https://good.exam\u212ale.com",
    "https://good\uff0eexample.com",
    "https://[good.example.com]",
    "https://[::1%25good.example.com]",
    "https://[::1",
    "https://g%6fod.example.com",
    "http://good.example.com",
    "http://good.example.com:443",
    "null",
    "file://",
    "file:///etc/passwd",
    "file://good.example.com",
    "data:text/html,hello",
    "*",
    "https://*",
    "https://*.example.com",
    "",
]


class TestForgedOrigins:
    """Cross-site WebSocket hijacking: none of these may pass for https://good.example.com, or as of the same origin."""

    @pytest.mark.parametrize("origin", FORGED)
    def test_no_exact_option_allows_a_forged_origin(self, origin: str) -> None:
        assert not Origins(["https://good.example.com"]).allows(origin, "server.example")

    @pytest.mark.parametrize("origin", FORGED)
    def test_no_forged_origin_is_the_servers_own(self, origin: str) -> None:
        assert not Origins().allows(origin, "good.example.com:8443")

    @pytest.mark.parametrize("origin", [*FORGED, "https://good.example.com"])
    def test_no_wildcard_allows_a_forged_origin(self, origin: str) -> None:
        assert not Origins(["https://*.good.example.com"]).allows(origin, "server.example")


class TestExactOptions:
    @pytest.mark.parametrize(
        ("option", "origin"),
        [
            ("https://app.example.com", "https://app.example.com"),
            ("https://app.example.com", "https://app.example.com:443"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("https://App.Example.com", "https://aPP.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://[2001:db8::1]:8443", "https://[2001:DB8:0::1]:8443"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("chrome-extension://abcdefghij", "chrome-extension://abcdefghij"),
        ],
    )
    def test_a_listed_origin_is_allowed(self, option: str, origin: str) -> None:
        assert Origins(["null", option]).allows(origin, "server.example")

    def test_a_listed_origin_is_allowed_whatever_the_host(self) -> None:
        assert Origins(["https://app.example.com"]).allows("https://app.example.com", "")

    @pytest.mark.parametrize("origin", ["http://localhost:3001", "https://localhost:3000", "http://localhost"])
    def test_a_listed_name_with_another_port_or_scheme_is_not_allowed(self, origin: str) -> None:
        assert not Origins(["http://localhost:3000"]).allows(origin, "server.example")


class TestWildcardOptions:
    @pytest.mark.parametrize(
        "origin", ["https://a.example.com", "https://A.b.Example.com", "https://a.example.com:443"]
    )
    def test_a_wildcard_allows_every_name_below(self, origin: str) -> None:
        assert Origins(["https://other.example", "https://*.example.com"]).allows(origin, "server.example")

    @pytest.mark.parametrize(
        "origin",
        [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.example",
            "https://a.example.com:8443",
            "http://a.example.com",
            "null",
        ],
    )
    def test_a_wildcard_allows_neither_the_apex_nor_other_ports_and_schemes(self, origin: str) -> None:
        assert not Origins(["https://*.example.com"]).allows(origin, "server.example")

    def test_a_wildcard_may_have_a_port(self) -> None:
        origins = Origins(["http://*.localhost:3000"])
        assert origins.allows("http://app.localhost:3000", "server.example")
        assert not origins.allows("http://app.localhost", "server.example")


#: What clients send, byte for byte. The ids are those of extensions, and made up where each installation has its own.
SENT = [
    "file://",  # Chromium, Electron, Cordova: pages from files
    "capacitor://localhost",  # Capacitor on iOS
    "ionic://localhost",  # Ionic's WebView on iOS
    "http://localhost",  # Capacitor on Android
    "app://localhost",  # Cordova on iOS
    "app://x",
    "app://.",  # Electron, with a scheme of its own
    "app://-",
    "app://obsidian.md",
    "tauri://localhost",
    "http://tauri.localhost",
    "https://tauri.localhost",
    "wails://wails",
    "chrome-extension://cjpalhdlnbpafiamejdnhcphjbkeiagm",
    "moz-extension://0f3c2b4e-8a4d-4b0e-9f0e-6a2b1c3d4e5f",
    "safari-web-extension://4F1E9D0C-2C3B-4A5D-8E6F-7A8B9C0D1E2F",
    "ms-browser-extension://TranslatorforMicrosoftEdge_79tmfgn3jgd9y",
    "vscode-webview://1ga8gk0ss5cqk8t1d3pqkm2m8kpfm1n6rfk0b2jj9l2s4q5r6v7u",
    "vscode-file://vscode-app",
    "resource://pdf.js",
    "chrome://newtab",
    "devtools://devtools",
    "ms-appx-web://4ab1c2d3-example",
    "qrc://",
    "gap://ready",
    "app://localhost:3000",
]


class TestApplications:
    """Pages of applications and extensions have schemes of their own (RFC 6454 §4), whose host may be empty."""

    @pytest.mark.parametrize("origin", SENT)
    def test_a_listed_application_is_allowed(self, origin: str) -> None:
        assert Origins(["https://other.example", origin]).allows(origin, "server.example")

    @pytest.mark.parametrize("origin", SENT)
    def test_an_unlisted_application_is_not_allowed(self, origin: str) -> None:
        others = [other for other in SENT if other != origin]
        assert not Origins([*others, "null", "https://*.example"]).allows(origin, "server.example")

    @pytest.mark.parametrize("origin", [one for one in SENT if not one.startswith("http")])
    def test_an_application_is_never_the_servers_own_origin(self, origin: str) -> None:
        assert not Origins().allows(origin, origin.partition("://")[2] or "localhost")

    @pytest.mark.parametrize(
        "origin",
        [
            "file:///",
            "file:///android_asset/www/index.html",
            "file:",
            "file:/",
            "file://localhost",
            "FILE",
            "xfile://",
            "file://,file://",
            "file:// ",
            "null",
            "http://",
        ],
    )
    def test_what_only_looks_like_a_file_origin_is_not_allowed(self, origin: str) -> None:
        assert not Origins(["file://"]).allows(origin, "server.example")

    @pytest.mark.parametrize("scheme", ["moz-extension", "VSCode-webview", "x"])
    def test_all_origins_of_a_scheme_may_be_listed(self, scheme: str) -> None:
        """Each installation of Firefox has its own id of an extension, each start of VS Code those of its webviews."""
        origins = Origins([f"{scheme}://*"])
        for origin in (f"{scheme}://a", f"{scheme.lower()}://b_c-d.e:1", f"{scheme.upper()}://"):
            assert origins.allows(origin, "server.example")
        for origin in (f"{scheme}2://a", f"a{scheme}://a", f"{scheme}:a", f"{scheme}://a/b", "https://a", "null"):
            assert not origins.allows(origin, "server.example")


class TestOwnScheme:
    """RFC 6454 §5: where TLS ends at us, our pages are of https. Else a proxy may end it in front."""

    @pytest.mark.parametrize("host", ["h", "h:443", "h:80"])
    @pytest.mark.parametrize("port", ["", ":80", ":443"])
    def test_http_is_not_https(self, host: str, port: str) -> None:
        assert not Origins().allows(f"http://h{port}", host, secure=True)
        assert Origins().allows(f"http://h{port}", host) is ((port or ":80") == (host[1:] or ":80"))
        assert Origins().allows(f"https://h{port}", host, secure=True) is ((port or ":443") == (host[1:] or ":443"))

    def test_a_listed_origin_of_another_scheme_is_allowed(self) -> None:
        assert Origins(["http://h"]).allows("http://h", "h", secure=True)


class TestGiven:
    @pytest.mark.parametrize("option", ["*", "null", "https://a.example", "https://*.example", "app://*"])
    def test_given_says_whether_there_are_options(self, option: str) -> None:
        assert Origins([option]).given
        assert not Origins().given


class TestNull:
    """RFC 6454 §6.1: what opaque origins are written as, those of sandboxed frames and data: URLs; anyone has them."""

    def test_a_listed_null_origin_is_allowed(self) -> None:
        assert Origins(["null"]).allows("null", "example.com")

    @pytest.mark.parametrize("origin", ["NULL", "null ", "file://"])
    def test_only_the_exact_word_is_the_null_origin(self, origin: str) -> None:
        assert not Origins(["null"]).allows(origin, "example.com")


class TestAny:
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "garbage"])
    def test_any_origin_is_allowed(self, origin: str) -> None:
        assert Origins(["https://app.example.com", "*"]).allows(origin, "example.com")


class TestBadOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["example.com"], "'example.com' is not an origin: write https://example.com"),
            (["https://example.com/"], "'https://example.com/' is not an origin"),
            (["https://"], "is not an origin"),
            (["http://"], "is not an origin"),
            (["file:///"], "'file:///' is not an origin: write https://example.com, .*file://"),
            (["file"], "'file' is not an origin"),
            (["1app://"], "is not an origin"),
            (["\u212aiosk://*"], "is not an origin"),
            (["wss://"], "is not an origin"),
            (["ftp://*"], "all names below a domain"),
            (["app://*."], "all names below a domain"),
            (["app://*x"], "all names below a domain"),
            (["https://user@example.com"], "is not an origin"),
            (["https://example.com:99999"], "is not an origin"),
            (["https://b\xfccher.example"], "is not an origin"),
            (["1https://example.com"], "is not an origin"),
            ([""], "'' is not an origin"),
            (["https://*"], "all names below a domain"),
            (["https://*.*.example.com"], "all names below a domain"),
            (["https://app.*.com"], "all names below a domain"),
            (["https://*app.example.com"], "all names below a domain"),
            (["https://*.[::1]"], "all names below a domain"),
            (["wss://example.com"], "'wss://example.com' is not an origin: a web page"),
            ([b"https://example.com"], "write it as a string"),
            ([None], "None is not an origin"),
            ("https://example.com", "a list, not 'https://example.com'"),
        ],
    )
    def test_wrong_origins_are_named(self, options: list[str], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message.replace("https://*", r"https://\*")):
            Origins(options)
