import os

import wshost

KEY = os.environ.get("POSTMAN_KEY", "only for your own machine").encode()


def init(options):
    return options["worker"]


async def handle(message, ref):
    match message:
        case ("text", "who am I?"):
            return ("reply", ref.signed(KEY), ref)
        case ("text", letter):
            to, _, text = letter.partition(" ")
            try:
                outcome = await wshost.Ref.parse(to, KEY).send(text, confirm=True)
            except ValueError:
                return ("reply", "this is nobody's address", ref)
            return ("reply", outcome.value, ref)
        case _:
            return ("noreply", ref)
