import pytest

from wshost.protocols.http.routes import Routes
from wshost.results import ConfigurationError


class TestSpecificity:
    ROUTES = Routes(["/*", "/chat", "/chat/*", "/chat/room/*", "/chat/room/", "/", "/a/*"])

    @pytest.mark.parametrize(
        ("path", "pattern"),
        [
            ("/", "/"),
            ("/chat", "/chat"),
            ("/chat/", "/chat/*"),
            ("/chat/1", "/chat/*"),
            ("/chat/room", "/chat/*"),
            ("/chat/room/", "/chat/room/"),
            ("/chat/room/7/8", "/chat/room/*"),
            ("/chatter", "/*"),
            ("/Chat", "/*"),
            ("/a", "/*"),
            ("//", "/*"),
            ("/*", "/*"),
        ],
    )
    def test_the_most_specific_pattern_wins(self, path: str, pattern: str) -> None:
        assert self.ROUTES.match(path) == pattern

    def test_the_order_of_the_patterns_makes_no_difference(self) -> None:
        assert Routes(["/*", "/chat/*", "/chat/room/*"]).match("/chat/room/7") == "/chat/room/*"
        assert Routes(["/chat/room/*", "/chat/*", "/*"]).match("/chat/room/7") == "/chat/room/*"


class TestNoMatch:
    @pytest.mark.parametrize("path", ["/", "/chat/", "/chat/1", "/CHAT", "/chat2", "/cha", "/%63hat", "//chat"])
    def test_an_exact_pattern_matches_that_path_only(self, path: str) -> None:
        assert Routes(["/chat"]).match(path) is None

    @pytest.mark.parametrize("path", ["/", "/chat", "/chatter/1", "/Chat/1", "//chat/1", "/x/chat/1"])
    def test_a_prefix_matches_what_is_below_it_only(self, path: str) -> None:
        assert Routes(["/chat/*"]).match(path) is None


class TestAmbiguousPaths:
    """RFC 3986 §5.2.4, §6.2.2: what another party could read as another path."""

    @pytest.mark.parametrize(
        "path",
        [
            "/.",
            "/..",
            "/./chat",
            "/chat/../admin",
            "/chat/..",
            "/chat/.",
            "/chat/%2e%2E/admin",
            "/chat/.%2e/admin",
            "/chat/%2e",
            "/chat%2fadmin",
            "/chat%2Fadmin",
            "/chat%5cadmin",
            "/chat%5Cadmin",
            "/chat\\admin",
        ],
    )
    def test_ambiguous_paths_match_nothing(self, path: str) -> None:
        assert Routes(["/*", "/chat/*"]).match(path) is None

    @pytest.mark.parametrize("path", ["/...", "/.hidden", "/a.", "/a..b", "/..a", "/%2e%2e%2e", "/a%2e/b", "/%252f"])
    def test_dots_in_names_are_no_dot_segments(self, path: str) -> None:
        assert Routes(["/*"]).match(path) == "/*"


class TestBadPatterns:
    @pytest.mark.parametrize(
        ("patterns", "message"),
        [
            (["chat"], "'chat' is not a path pattern"),
            ([""], "'' is not a path pattern"),
            (["*"], "'\\*' is not a path pattern"),
            (["/chat*"], "'/chat\\*' is not a path pattern: \\* stands for whole segments"),
            (["/*/chat"], "'/\\*/chat' is not a path pattern"),
            (["/chat/**"], "'/chat/\\*\\*' is not a path pattern"),
            (["/chat?a=1"], "is not a path pattern"),
            (["/chat#a"], "is not a path pattern"),
            (["/a b"], "is not a path pattern"),
            (["/caf\xe9"], "is not a path pattern"),
            (["/chat\n"], "is not a path pattern"),
            ([7], "7 is not a path pattern"),
            (["/a/../b"], "'/a/../b' never matches"),
            (["/a%2Fb/*"], "'/a%2Fb/\\*' never matches"),
            (["/a", "/b", "/a"], "'/a' is given twice"),
            (["/a/*", "/a/*"], "'/a/\\*' is given twice"),
            ([], "an empty list"),
            ("/chat", "a list, not '/chat'"),
        ],
    )
    def test_wrong_patterns_are_named(self, patterns: list[str], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Routes(patterns)
