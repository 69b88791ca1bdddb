"""Probes and waiting."""
