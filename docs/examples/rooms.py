"""Who connects to /rooms/7 is in room 7. Who connects to /rooms hears all rooms."""

from wshost import Reject, publish


def init(options):
    match options["connection"].path.split("/"):
        case ["", "rooms"]:
            room = "*"
        case ["", "rooms", number] if number.isdecimal():
            room = number
        case _:
            raise Reject(404, "There are /rooms, and rooms such as /rooms/7\n")
    options["worker"].subscribe(f"rooms.{room}")
    return room


def handle(message, room):
    match message:
        case ("text", text) if room != "*":
            publish(f"rooms.{room}", f"{room}: {text}")
    return ("noreply", room)
