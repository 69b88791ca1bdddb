"""Backups: streams to a store, with a manifest written last; a backup without one does not exist."""
