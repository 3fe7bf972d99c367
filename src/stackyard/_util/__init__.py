"""Programs, files, times, locks and output: what every other package may use, and what knows none of them."""
