"""Comparisons and measurements: the figures in the documentation come from here."""
