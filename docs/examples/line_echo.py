"""A protocol module without HTTP: sends each line back, until one is "quit"."""

from zope.interface import implementer, moduleProvides

from wshost.interfaces import IProtocolDriver, IProtocolModule
from wshost.results import REFUSED, Close, Stop

moduleProvides(IProtocolModule)

MAX_LINE = 1_024


def init(options, context):
    context.write(b"Say something.\n")
    return LineEcho()


@implementer(IProtocolDriver)
class LineEcho:
    def __init__(self):
        self._unfinished = b""

    def handle_connection_in(self, data):
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        results = []
        for line in lines:
            if line.strip() == b"quit":
                return [*results, Close(b"Good-bye.\n")]
            results.append(line + b"\n")
        if len(self._unfinished) > MAX_LINE:
            return Stop("a line without an end")
        return results

    def handle_action(self, action, *args):
        if action == "shutdown":
            return Close(b"The server stops.\n")
        return REFUSED

    def handle_connection_close(self, reason):
        self._unfinished = b""
