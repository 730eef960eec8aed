"""Periodic jobs: what is due by the clock and not by a request. Each package defines and registers its own."""
