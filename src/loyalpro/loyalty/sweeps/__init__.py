"""Periodic jobs of the program: what is due because of the time, and what a change of the program makes of customers.

Each transaction changes customers of one account: as many as take a moment, and at most 200. A book locks them in the order of
their ids and settles them. What another process has done meanwhile is not due any more then, so several processes may run a
sweep at once.
"""
