import time


def init(options):
    return None


def handle(message, state):
    match message:
        case ("text", text):
            time.sleep(0.6)  # nobody else is served meanwhile
            return ("reply", text, state)
        case _:
            return ("noreply", state)
