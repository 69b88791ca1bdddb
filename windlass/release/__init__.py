"""A release: plan, lock, ledger, phases, rollback."""
