"""An alarm clock. The client sends a number of seconds; after them, a timer's thread sends the connection an info."""

from threading import Timer


def init(options):
    return options["worker"]


def handle(message, ref):
    match message:
        case ("text", seconds):
            timer = Timer(float(seconds), ref.info, [("alarm", f"{seconds} s are over")])
            timer.daemon = True
            timer.start()
        case ("info", ("alarm", text)):
            return ("reply", text, ref)
    return ("noreply", ref)
