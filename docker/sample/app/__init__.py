"""The sample application: a small HTTP API and a worker on PostgreSQL and Redis."""
