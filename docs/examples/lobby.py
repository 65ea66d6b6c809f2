"""Who is here, in all processes. The path is the user's name; a user has one connection. "@name text" goes to one."""

import json

import wshost


def init(options):
    ref, name = options["worker"], options["connection"].path.strip("/")
    if not wshost.register(name, ref):
        raise wshost.Reject(409, "This name is taken.")
    wshost.track("lobby", ref, name)
    ref.watch("lobby")
    return {"ref": ref, "name": name, "here": {}}


def handle(message, state):
    match message:
        case ("text", text) if text.startswith("@"):
            name, _, rest = text[1:].partition(" ")
            other = wshost.whereis(name)
            if other is None or not other.send(f"{state['name']}: {rest}"):
                return ("reply", f"{name} is not here", state)
        case ("info", ("presence", "lobby", joined, left)):
            here = {ref: name for ref, name in state["here"].items() if ref not in left} | joined
            return ("reply", json.dumps(sorted(here.values())), {**state, "here": here})
        case ("info", ("unregistered", _)):
            return ("close", 4000, "This name was taken before.", state)
    return ("noreply", state)
