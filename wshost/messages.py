"""Checks messages, topics, and payloads of control frames before they are sent. Knows no sender."""

from __future__ import annotations

from wshost.exact import message, number, text

#: A queued call counts as this many bytes against limits on queues, in addition to its data.
CALL = 256
#: The longest name of a topic, in bytes of UTF-8.
MAX_TOPIC = 255
#: The longest name of a connection, in bytes of UTF-8.
MAX_NAME = 255
#: The longest key of a message, in bytes of UTF-8.
MAX_KEY = 255
#: The longest payload of a control frame, in bytes (RFC 6455 §5.5).
MAX_PAYLOAD = 125
#: The longest reason of a Close, in bytes of UTF-8: the code before it takes two bytes.
MAX_REASON = MAX_PAYLOAD - 2
#: The code and reason of a handler's ``("close", state)``.
NORMAL_CLOSE = (1000, "Normal close")


def check_message(data: str | bytes) -> tuple[str | bytes, int]:
    """Return a message as an exact str or bytes, and its size in bytes. A mutable buffer is copied.

    :raises TypeError: when it is neither a str nor bytes.
    :raises UnicodeEncodeError: for a str with lone surrogates.
    """
    if type(data) is str:
        # Lone surrogates must raise here: once the message is queued, its sender can't be told.
        return data, len(data) if data.isascii() else len(data.encode())
    if type(data) is bytes:
        return data, len(data)
    return check_message(message(data))


def check_topic(topic: str) -> str:
    """Return the name of a topic, or a pattern of topics, as an exact str.

    :raises TypeError: when it is not a str.
    :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, has lone surrogates, or has a token ``>`` that
        is not the last.
    """
    topic = _check_name(topic, "topic", MAX_TOPIC)
    if ">" in topic and ">" in topic.split(".")[:-1]:
        raise ValueError(f"in a pattern of topics, '>' can only be the last token: {topic!r}")
    return topic


def check_key(key: str) -> str:
    """Return the key of a message as an exact str.

    :raises TypeError: when it is not a str.
    :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, or has lone surrogates.
    """
    return _check_name(key, "key", MAX_KEY)


def check_name(name: str) -> str:
    """Return the name of a connection as an exact str.

    :raises TypeError: when it is not a str.
    :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, or has lone surrogates.
    """
    return _check_name(name, "name", MAX_NAME)


def _check_name(name: str, what: str, most: int) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a {what} is a str, not {type(name).__name__}")
    name = text(name)
    size = len(name.encode())
    if not 1 <= size <= most:
        raise ValueError(f"a {what} has 1 to {most} bytes, not {size}")
    return name


def sendable(code: int) -> bool:
    """Return whether an endpoint may send this close code (RFC 6455 §7.4.1, and IANA's registry for 1012 to 1014)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def check_close(code: int | None, reason: str) -> tuple[int | None, str]:
    """Return a close code and a reason. A long reason is cut, between characters, to at most `MAX_REASON` bytes.

    :param code: None for a Close without a code; the reason is empty then (RFC 6455 §5.5.1).
    :raises ValueError: for a code that may not be sent, or a reason that is not a str or comes without a code.
    """
    if code is None:
        if reason != "":
            raise ValueError(f"{reason!r} can't be the reason of a Close without a code")
        return None, ""
    if not isinstance(code, int) or not sendable(number(code)):
        raise ValueError(f"{code!r} is not a close code to send: 1000-1003, 1007-1014, 3000-4999")
    if not isinstance(reason, str):
        raise ValueError(f"{reason!r} is not a close reason: a str")
    return number(code), text(reason).encode()[:MAX_REASON].decode(errors="ignore")


def check_payload(data: str | bytes) -> bytes:
    """Return a ping's or pong's payload as bytes.

    :raises TypeError: when it is neither str nor bytes.
    :raises ValueError: when it is longer than 125 bytes, or a str with lone surrogates.
    """
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"the payload of a ping or pong is a str or bytes, not {type(data).__name__}")
    data = message(data)
    payload = data.encode() if isinstance(data, str) else data
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"the payload of a ping or pong has at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return payload
