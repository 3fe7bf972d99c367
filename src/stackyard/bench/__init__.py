"""Comparisons and measurements that the documentation's figures come from: ``python -m stackyard.bench NAME``."""
