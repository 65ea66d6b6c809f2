version = 2


def init(options):
    return {"count": 0, "last": None}


def code_change(old_version, state):
    if old_version == 1:
        # In version 1, the state was the count alone.
        return {"count": state, "last": None}
    return state


def handle(message, state):
    match message:
        case ("text", text):
            state["count"] += 1
            answer = f"{state['count']}: {text}, after {state['last']}"
            state["last"] = text
            return ("reply", answer, state)
        case _:
            return ("noreply", state)
