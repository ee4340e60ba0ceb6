"""Measurements against named baselines: python -m bench NAME."""
