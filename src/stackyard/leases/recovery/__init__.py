"""How the book restores itself: damaged rows, a lost book, and leases read from files and labels."""
