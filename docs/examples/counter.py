def init(options):
    return 1  # the state of a new connection


def handle(message, count):
    match message:
        case ("text", text):
            return ("reply", f"{count}: {text}", count + 1)
        case _:
            return ("noreply", count)
