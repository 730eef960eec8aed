"""Clock, ids, errors and JSON for every other package. No I/O."""
