"""A server from code, with the options of wsserver: twistd -ny embedded.tac"""

from twisted.application.service import Application

import wshost

application = Application("counter")
server = wshost.service(
    {
        "port": 8080,
        "number_of_workers": 10,
        "worker_options": {
            "protocol_modules": [
                ("wsserver_websocket_protocol", {"handler_module": "counter"}),
            ],
        },
    }
)
server.setServiceParent(application)
