"""Programs, files, times, locks and output: every other package may use them, and they import no other package."""
