"""Periodic jobs of the program: short transactions over at most 200 customers each, in the order of their ids."""
