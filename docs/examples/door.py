"""Lets in clients that bring the token, and chooses a subprotocol: what init may look at, and answer."""

import hmac

from wshost import Accept, Reject


def init(options):
    connection = options["connection"]
    token = connection.cookies.get("token", "")
    if not hmac.compare_digest(token.encode(), options["token"].encode()):
        raise Reject(401, "Log in first.\n", {"WWW-Authenticate": 'Cookie realm="chat"'})
    if "greeting.v2" in connection.subprotocols:
        return Accept("Welcome", subprotocol="greeting.v2", headers={"X-Room": connection.path})
    return "Hello"


def handle(message, greeting):
    match message:
        case ("text", name):
            return ("reply", f"{greeting}, {name}", greeting)
    return ("noreply", greeting)
