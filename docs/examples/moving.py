import json


def init(options):
    return {"worker": options["worker"], "count": 0}


def handle(message, state):
    match message:
        case ("text", _):
            state["count"] += 1
            return ("reply", str(state["count"]), state)
    return ("noreply", state)


def freeze(state):
    return json.dumps({"count": state["count"]}).encode()


def thaw(data, options):
    return {"worker": options["worker"], **json.loads(data)}
