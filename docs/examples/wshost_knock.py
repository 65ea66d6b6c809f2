from wshost.plugins import ProtocolModule

knock = ProtocolModule("knock", "knock")
