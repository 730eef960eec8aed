"""The outside's way in: HTTP, JSON, problems, keys."""
