"""What a clean-up would remove, and the removal, which an empty list proves."""
