"""A chat room: what one says, all hear."""

from urllib.parse import parse_qs

from wshost import Reject, publish


def init(options):
    name = parse_qs(options["connection"].query).get("name", [""])[0]
    if not name:
        raise Reject(400, "Who are you? Connect to /?name=Ada\n")
    publish("room", f"{name} comes in")
    options["worker"].subscribe("room")
    return name


def handle(message, name):
    match message:
        case ("text", text):
            publish("room", f"{name}: {text}")
        case "connection_close":
            publish("room", f"{name} leaves")
    return ("noreply", name)
