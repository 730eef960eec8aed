"""The engine: it sends pending deliveries as signed HTTPS requests, and has no knowledge of the loyalty program.

Its main path is `Engine._deliver` in `engine.py`: sign -> send -> classify -> decide -> settle.
"""
