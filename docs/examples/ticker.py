"""Sends each client the prices of all symbols, as they change. A slow client gets the last price of each."""

import random

from twisted.internet.task import LoopingCall

when_slow = "conflate"
prices = {f"SYM{number}": 100.0 for number in range(20)}
clients = set()


def change():
    for symbol, price in prices.items():
        prices[symbol] = price * random.uniform(0.99, 1.01)
        for ref in clients:
            ref.send(f"{symbol} {price:.2f}", key=symbol)


clock = LoopingCall(change)


def init(options):
    clients.add(options["worker"])
    if not clock.running:
        clock.start(0.1)
    return options["worker"]


def handle(message, ref):
    if message == "connection_close":
        clients.discard(ref)
    return ("noreply", ref)
