"""The HTTP API: `python3 -m app.api`."""

from __future__ import annotations

import logging
import os
import threading

from app import lifecycle, migrations
from app.application import Application
from app.cache import Cache
from app.database import Database
from app.lifecycle import Stop
from app.server import Server
from app.settings import Settings

log = logging.getLogger("app.api")

# Inside a container; what of it is published, and where, is for the Compose file to say.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104


def serve(settings: Settings, stop: Stop) -> int:
    """Serve until asked to stop, then finish what is under way; 1 when that took too long."""
    database, cache = Database(), Cache(settings.redis_host, settings.redis_port)
    application = Application(settings, database, cache, migrations.discover(), os.environb)
    server = Server((EVERY_ADDRESS, settings.port), application)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    log.info("version %s listens on port %d", settings.version, settings.port)
    stop.wait()
    log.info("stopping: no new connections, finishing requests")
    finished = server.stop(settings.drain_seconds)
    database.close()
    cache.close()
    log.info("stopped" if finished else "stopped with requests unfinished")
    return 0 if finished else 1


def main() -> int:
    """Start the API."""
    settings = lifecycle.load_settings()
    stop = lifecycle.stop_on_signal(ignore=settings.ignore_sigterm)
    return serve(settings, stop) if lifecycle.begin(settings, stop) else 0


if __name__ == "__main__":
    raise SystemExit(main())
