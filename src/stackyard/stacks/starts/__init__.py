"""What every start has, of a stack or of a copy: its options, checks, turn, attempts and times."""
