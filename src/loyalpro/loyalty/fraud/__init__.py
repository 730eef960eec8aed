"""Fraud rules: what they measure, when they fire, and the cases that they open."""
