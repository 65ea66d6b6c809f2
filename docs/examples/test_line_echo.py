from unittest.mock import Mock

from examples import line_echo

from wshost.results import Close


def test_says_back_whole_lines():
    driver = line_echo.init({}, context=Mock())
    assert driver.handle_connection_in(b"one\ntw") == [b"one\n"]
    assert driver.handle_connection_in(b"o\nquit\nnever read") == [b"two\n", Close(b"Good-bye.\n")]
