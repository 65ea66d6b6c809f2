on_crash = "restart"


def init(options):
    return 0


def handle(message, total):
    match message:
        case ("text", number):
            total += int(number)  # raises ValueError for what is no number
            return ("reply", str(total), total)
        case _:
            return ("noreply", total)
