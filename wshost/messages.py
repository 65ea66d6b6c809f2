"""What may be sent and published, checked where it is asked for. Knows nobody who sends it."""

from __future__ import annotations

from wshost.exact import message, text

#: What waits for a later turn weighs that much beside its data, in bytes.
CALL = 256
#: A topic's name, in bytes of UTF-8.
MAX_TOPIC = 255


def check_message(data: str | bytes) -> tuple[str | bytes, int]:
    """Return a message as it is now, and its size in bytes.

    :raises TypeError: when it is neither a str nor bytes.
    :raises UnicodeEncodeError: for a str with lone surrogates.
    """
    if type(data) is str:
        # Now, and not when the reactor has come to it and nobody is there to be told.
        return data, len(data) if data.isascii() else len(data.encode())
    if type(data) is bytes:
        return data, len(data)
    return check_message(message(data))


def check_topic(topic: str) -> str:
    """Return the name of a topic.

    :raises TypeError: when it is no str.
    :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, or has lone surrogates.
    """
    if not isinstance(topic, str):
        raise TypeError(f"a topic is a str, not {type(topic).__name__}")
    topic = text(topic)
    size = len(topic.encode())
    if not 1 <= size <= MAX_TOPIC:
        raise ValueError(f"a topic has 1 to {MAX_TOPIC} bytes, not {size}")
    return topic
