"""Splits the text of a request head (RFC 9112 §§2 to 5) into its parts. Judges no part, and knows no field.

`fields.pyx` has the same function in C, in one pass. Where it was compiled, it runs in place of this file.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from wshost.request import TOKEN

#: Visible ASCII without "#".
TARGET = re.compile(r'[!"$-~]+')

# TOKEN and TARGET end in "+"; the extra "+" makes them possessive: no backtracking.
_HEAD = re.compile(
    rf"({TOKEN.pattern}+) ({TARGET.pattern}+) HTTP/1\.([01])\r\n"
    rf"((?:{TOKEN.pattern}+:[\t -~\x80-\xff]*+\r\n)*+)\r\n"  # obs-text, too (RFC 9110 §5.5)
)
_FIELD = re.compile(rf"({TOKEN.pattern}+):[ \t]*+([^\r]*+)\r\n")

Parts: TypeAlias = tuple[str, str, bool, dict[str, str], int, tuple[str, ...], int, bool]


def split(head: bytes, most: int) -> Parts | None:
    """Return the parts of a request head; None when it is malformed.

    :param head: the bytes up to and including the first empty line.
    :param most: the most field lines that are returned; all are counted.
    :returns: the method and the target; whether this is HTTP/1.1, not 1.0; the fields' values by their names in lower
        case, in the order of the first of each name, where several values of a name are joined as `Headers` does it;
        the number of field lines; the names of those that had an earlier field's name; how many commas the fields have;
        and whether they are ASCII.
    """
    match = _HEAD.fullmatch(head.decode("latin-1"))
    if match is None:
        return None
    method, target, minor, lines = match.groups()
    fields: dict[str, str] = {}
    again = []
    found = _FIELD.findall(lines)
    for written, padded in found[:most]:
        name, value = written.lower(), padded.rstrip(" \t")
        if name in fields:
            again.append(name)
            fields[name] += ("; " if name == "cookie" else ", ") + value
        else:
            fields[name] = value
    return method, target, minor == "1", fields, len(found), tuple(again), lines.count(","), lines.isascii()
