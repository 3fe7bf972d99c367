"""
The reaper: one optional background process for each lease book.

It removes the stacks of dead owners within seconds and keeps warm stacks ready. It is never needed: it decides from the
lease book alone, and every command can do what it does. If it is killed, it leaves stale leases, which the next command
or the next reaper removes.
"""
