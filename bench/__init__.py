"""Measurements: each beside a bare libcurl loop to the same receiver, in the same run."""
