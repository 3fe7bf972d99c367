"""The fixed ports of environments: which of them other programs have."""

from __future__ import annotations


def free() -> tuple[bool, str]:
    """Say whether they are free, and which are not; those of our own stacks are in use as intended."""
    from stackyard.leases import LeaseBook
    from stackyard.leases.grants.host_ports import can_bind, port_holders
    from stackyard.leases.owners import short
    from stackyard.project.environments import load_all
    from stackyard.project.environments.roots import in_environments
    from stackyard.settings import Settings

    if not in_environments():
        return True, "none needed here"
    fixed = {port: environment.name for environment in load_all().values() for port in environment.ports.values()}
    own = {
        port: lease.title
        for lease in LeaseBook(Settings.load(), read_only=True).leases()
        if lease.slot is None
        for port in lease.ports.values()
    }
    taken = [port for port in sorted(fixed) if port not in own and not can_bind(port)]
    holders = port_holders(taken) if taken else {}
    used = [f"{port} ({fixed[port]}): {short(holders.get(port, 'another user or a container'))}" for port in taken]
    ours = sorted(set(own.values()))
    rest = f"all {len(fixed)} free" + (f" except those of our own {', '.join(ours)}" if ours else "")
    return not taken, "; ".join(used) or rest
