"""Sends a long list of numbers, as fast as the client reads it."""


def init(options):
    return options["worker"]


async def handle(message, ref):
    match message:
        case ("text", count):
            for number in range(int(count)):
                ref.send(f"{number:>9,}" * 1_000)
                if not await ref.drained():
                    break
            return ("reply", "done", ref)
    return ("noreply", ref)
