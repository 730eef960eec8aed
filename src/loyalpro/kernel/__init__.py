"""What every other package may rely on: clock, ids, errors. No I/O."""
