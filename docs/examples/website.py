"""A website for the same port: serves this directory to whoever does not come to upgrade to WebSocket."""

from pathlib import Path

from twisted.web.server import Site
from twisted.web.static import File

factory = Site(File(str(Path(__file__).parent)))
