"""Runs the engine's own code and SQL in several simulated processes, on a virtual clock, with random faults.

Everything follows from a seed: the same seed gives the same run, byte for byte. `make simulate` runs many seeds.
"""
