"""Real processes, real faults, and a check of every webhook by a checker that shares no code with the product.

Three parts write journals: the producers (`producer.py`) what was acknowledged, the receivers (`receiver.py`) what arrived,
the run (`run.py`) the subscriptions and the faults. `faults.py` causes the faults meanwhile. At the end `checker.py`
compares the journals with each other and with the database.
"""
