"""The engine's own code and SQL, run by many simulated processes on a virtual clock, with every fault we can think of.

A seed decides everything: the same seed plays the same run, to the last byte. See `make simulate`.
"""
