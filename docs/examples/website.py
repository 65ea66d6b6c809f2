"""A website on the same port: the folder `website` beside this file, for requests that are no WebSocket upgrade."""

import os
from mimetypes import guess_type
from pathlib import Path

from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class Page(Resource):
    """What was read when the server started: clients reach no file. A folder is what is not found, with others below.

    Symlinks, which may lead anywhere, and what is hidden were not read.
    """

    status, type, data = 404, "text/plain", b"There is no such page.\n"

    def read(self, path):
        if path.is_file():
            self.status, self.data = 200, path.read_bytes()
            self.type = guess_type(path.name)[0] or "application/octet-stream"
        for below in path.iterdir() if path.is_dir() else ():
            if not below.is_symlink() and not below.name.startswith("."):
                self.putChild(os.fsencode(below.name), Page().read(below))
        return self

    def getChild(self, path, request):
        return (not path and self.children.get(b"index.html")) or Page()

    def render_GET(self, request):
        request.setResponseCode(self.status)
        request.setHeader("content-type", self.type)
        request.setHeader("content-length", str(len(self.data)))
        return b"" if request.method == b"HEAD" else self.data


class BodilessRequest(Request):
    """A request without a body: of others, twisted.web would keep whatever comes."""

    def gotLength(self, length):
        if length == 0:
            super().gotLength(length)
        else:
            self.channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            self.channel.loseConnection()


class Channel(HTTPChannel):
    """A connection that ends unless the next request is there in time: all of it, not only one more byte."""

    def resetTimeout(self):
        pass

    def timeoutConnection(self):
        self.loseConnection()


class Website(Site):
    protocol = Channel

    def log(self, request):
        """Log no requests: how many there are is up to anybody."""


factory = Website(Page().read(Path(__file__).with_name("website")), BodilessRequest, timeout=20)
