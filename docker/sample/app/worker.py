"""The worker: takes new orders from Redis and marks them processed. `python3 -m app.worker`."""

from __future__ import annotations

import logging

from app import lifecycle, probe
from app.cache import Cache
from app.database import Database
from app.jobs import Worker

log = logging.getLogger("app.worker")


def main() -> int:
    """Start the worker."""
    settings = lifecycle.load_settings()
    stop = lifecycle.stop_on_signal(ignore=settings.ignore_sigterm)
    if not lifecycle.begin(settings, stop):
        return 0
    database, cache = Database(size=1), Cache(settings.redis_host, settings.redis_port)
    log.info("version %s waits for orders", settings.version)
    Worker(database, cache, stop, probe.HEARTBEAT, settings.job_seconds).run()
    database.close()
    cache.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
