"""Adds up a cart. Each message is JSON, such as {"item": "tea", "price": 3}."""

import orjson  # pip install orjson


async def init(options):
    return {}


async def handle(message, cart):
    match message:
        case ("text", text):
            try:
                order = orjson.loads(text)
                cart = {**cart, order["item"]: order["price"]}
                total = sum(cart.values())
            except (KeyError, TypeError, ValueError):
                return ("close", 1007, "an item and its price, as JSON", cart)
            # orjson returns bytes, which would leave as a binary message.
            return ("reply", orjson.dumps({"items": len(cart), "total": total}).decode(), cart)
    return ("noreply", cart)
