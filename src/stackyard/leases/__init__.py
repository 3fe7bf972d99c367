"""Exclusive claims on ports, a subnet and a project name, for processes that start stacks on one host at once."""

from stackyard.leases.book import LeaseBook
from stackyard.leases.context import alease, lease
from stackyard.leases.owners import Owner
from stackyard.leases.records import Leasable, Lease, Strangers
from stackyard.leases.recovery.lost_leases import Survivor

__all__ = ["Leasable", "Lease", "LeaseBook", "Owner", "Strangers", "Survivor", "alease", "lease"]
