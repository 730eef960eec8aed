"""The engine: it turns what is owed into signed HTTPS requests, and knows nothing of loyalty.

Its main path is `Engine._deliver` in `engine.py`: sign -> send -> classify -> decide -> settle.
"""
