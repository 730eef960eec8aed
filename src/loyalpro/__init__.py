"""LoyalPro: a loyalty platform with real-time webhooks at its centre."""

__version__ = "0.1.0"
