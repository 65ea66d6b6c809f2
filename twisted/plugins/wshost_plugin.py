"""The names by which Twisted finds us; nothing is imported through them before it is used."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from wshost.plugins import BackplaneKind, EndpointParser, ProtocolModule

# Plugin variables are public: Twisted's cache knows them by name.
wshost = ServiceMaker("wshost", "wshost.commands.twistd", "A WebSocket server that runs your handler.", "wshost")
http = ProtocolModule("http", "wshost.protocols.http.module")
websocket = ProtocolModule("websocket", "wshost.protocols.websocket.module")
factory = ProtocolModule("factory", "wshost.protocols.factory")
fast = EndpointParser("fast", "wshost.fastnet.reactor.parse")
uvloop = Reactor("uvloop", "wshost.process.reactors", "The asyncio reactor on uvloop, whose event loop is faster.")
nats = BackplaneKind("nats", "wshost.backplanes.nats.NatsBackplane", 4222)
nats_tls = BackplaneKind("tls", "wshost.backplanes.nats.NatsBackplane", 4222, tls=True)
redis = BackplaneKind("redis", "wshost.backplanes.redis.RedisBackplane", 6379)
redis_tls = BackplaneKind("rediss", "wshost.backplanes.redis.RedisBackplane", 6379, tls=True)
redis_sentinel_tls = BackplaneKind("rediss+sentinel", "wshost.backplanes.redis.RedisBackplane", 26379, tls=True)
redis_sentinel = BackplaneKind("redis+sentinel", "wshost.backplanes.redis.RedisBackplane", 26379)
redis_cluster = BackplaneKind("redis+cluster", "wshost.backplanes.redis_cluster.RedisClusterBackplane", 6379)
redis_cluster_tls = BackplaneKind(
    "rediss+cluster", "wshost.backplanes.redis_cluster.RedisClusterBackplane", 6379, tls=True
)
