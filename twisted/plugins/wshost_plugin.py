"""The names by which Twisted finds us; nothing is imported through them before it is used."""

from twisted.application.service import ServiceMaker

from wshost.plugins import ProtocolModule

# Plugin variables are public: Twisted's cache knows them by name.
wshost = ServiceMaker("wshost", "wshost.command", "A WebSocket server that runs your handler.", "wshost")
http = ProtocolModule("http", "wshost.protocols.http")
websocket = ProtocolModule("websocket", "wshost.protocols.websocket")
factory = ProtocolModule("factory", "wshost.protocols.factory")
