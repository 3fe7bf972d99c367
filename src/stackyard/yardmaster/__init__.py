"""
The yardmaster: one optional background process for each lease book.

It removes the stacks of dead owners within seconds and keeps warm stacks ready. It is an accelerator and never the
truth: it decides from the lease book alone, and whatever it does, any command does as well. Killed at any moment it
leaves stale leases, which the next command or the next yardmaster removes.
"""

from stackyard.yardmaster.waking import enabled, wake

__all__ = ["enabled", "wake"]
