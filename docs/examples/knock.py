"""A protocol module in front of others: lets a client through that says the word first, and hangs up on all others."""

from hmac import compare_digest

from zope.interface import implementer, moduleProvides

from wshost.interfaces import IPreparedModule, IProtocolDriver
from wshost.results import REFUSED, ConfigurationError, Stop, Switch

moduleProvides(IPreparedModule)

SECONDS = 5


def prepare(options):
    if options.keys() != {"word"} or not isinstance(options["word"], str):
        raise ConfigurationError("knock: give it a word and nothing else, as in knock,word=sesame")
    return options["word"].encode() + b"\n"


def init(word, context):
    if context.next_module is None:
        raise ConfigurationError("knock: no module follows")
    return Knock(word, context)


@implementer(IProtocolDriver)
class Knock:
    def __init__(self, word, context):
        self._word = word
        self._context = context
        self._heard = b""
        context.call_later(SECONDS, self._too_late)

    def handle_connection_in(self, data):
        self._heard += data
        size = len(self._word)
        if len(self._heard) < size:
            return None
        if not compare_digest(self._heard[:size], self._word):
            return Stop("the wrong word")
        return Switch(self._context.next_module, unread=self._heard[size:])

    def handle_action(self, action, *args):
        return REFUSED

    def handle_connection_close(self, reason):
        self._heard = b""

    def _too_late(self):
        self._context.perform(Stop("no word in time"))
