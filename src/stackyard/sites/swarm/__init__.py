"""
Copies of any Compose project on a Docker Swarm.

The Swarm schedules, and its own store holds the leases. stackyard translates (`translation`), keeps the order and
proves readiness (`start`, `progress`), and removes by label (`removal`).
"""
