"""A chat room: what one says, all hear."""

from urllib.parse import parse_qs

from wshost import Reject

members = set()


def init(options):
    name = parse_qs(options["connection"].query).get("name", [""])[0]
    if not name:
        raise Reject(400, "Who are you? Connect to /?name=Ada\n")
    ref = options["worker"]
    tell_all(f"{name} comes in")
    members.add(ref)
    return ref, name


def handle(message, state):
    ref, name = state
    match message:
        case ("text", text):
            tell_all(f"{name}: {text}")
        case "connection_close":
            members.discard(ref)
            tell_all(f"{name} leaves")
    return ("noreply", state)


def tell_all(text):
    for member in members:
        member.send(text)
