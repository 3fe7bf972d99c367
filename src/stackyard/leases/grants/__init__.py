"""How a lease is granted: what the host has free, which place a request gets, and the wait for one."""
