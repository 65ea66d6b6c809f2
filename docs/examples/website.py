"""A website for the same port: the folder `website` beside this file, for whoever does not come to upgrade."""

import os
from mimetypes import guess_type
from pathlib import Path

from twisted.web.http import HTTPChannel
from twisted.web.pages import notFound
from twisted.web.server import Request, Site
from twisted.web.static import Data


def pages(folder):
    """Read a folder once, when the server starts: clients reach no file, but what was read of them.

    Symlinks are left out, as they may lead anywhere, and what is hidden.
    """
    found = notFound()
    for path in folder.iterdir():
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            page = pages(path)
        elif path.is_file():
            page = Data(path.read_bytes(), guess_type(path.name)[0] or "application/octet-stream")
        else:
            continue
        found.putChild(os.fsencode(path.name), page)
        if path.name == "index.html":
            found.putChild(b"", page)
    return found


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


factory = Website(pages(Path(__file__).with_name("website")), BodilessRequest, timeout=20)
