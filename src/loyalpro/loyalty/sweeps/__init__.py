"""Periodic jobs of the program: what is due because of the time, and what a change of the program makes of customers.

Each transaction changes at most 200 customers of one account, which a book locks in the order of their ids and settles. What
another process has done meanwhile is not due any more then, so several processes may run a sweep at once.
"""
