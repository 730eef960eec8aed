"""Real processes, real faults, and an account of every webhook, made by a checker that shares no code with the product.

Three witnesses write down what they saw: the producers (`producer.py`) what was acknowledged to them, the receiver
(`receiver.py`) what arrived, the run itself (`run.py`) who was subscribed and what was broken when. Meanwhile `faults.py`
breaks things. At the end `checker.py` compares the witnesses with each other and with the database.
"""
