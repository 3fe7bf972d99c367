"""What a clean-up would remove, and the removal that proves itself by an empty list."""
