"""
From the model of a copy to services of a Docker Swarm: a pure function, and the list of what it drops or changes.

The bodies of the engine's own requests are made by `docker.fast_start.keys`; here each part finds its place in a
service, or is named in `Translation.changes`. What would run otherwise than its user means is refused, in one line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.tables import format_list
from stackyard.docker.engine import DEFAULT_GRACE
from stackyard.docker.fast_start.keys import fill, nanoseconds
from stackyard.docker.swarm import SERVICE_LABEL
from stackyard.errors import UnsupportedModelError, UsageError
from stackyard.plan.services import check_soon
from stackyard.project.model import copies_of
from stackyard.sites.swarm import containers, files, mounts
from stackyard.sites.swarm.removal import GRACE_LABEL, NEEDS_LABEL
from stackyard.sites.swarm.translation_notes import Notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.probes.readiness_rules import Rule
    from stackyard.sites.swarm.files import File
    from stackyard.sites.swarm.translation_notes import Note

# keys that are read here and not by `keys.fill`
OWN: Final = ("security_opt", "restart", "deploy", "volumes", "privileged", "pull_policy", "tmpfs", "shm_size")
# what a service cannot have, and why
REFUSED: Final = {
    "devices": "a node's devices are not part of a service; run this project on one engine",
    "privileged": "a service of a Swarm is never privileged; run this project on one engine",
    "volumes_from": "two services may be on two nodes; use a volume of an image, or one service",
    "external_links": "containers outside the project are not on the nodes",
}  # fmt: skip
NAMESPACES: Final = ("network_mode", "pid", "ipc", "uts")
# what is left out, and what that means
DROPPED: Final = {
    "container_name": "the Swarm names containers; the name stays an alias on the networks",
    "mac_address": "the Swarm gives addresses itself",
    "platform": "nodes run what their images are made for",
    "scale": "",
    "attach": "",
    "develop": "",
    "profiles": "",
    "annotations": "a Swarm has none",
    "external_links": "",
    "userns_mode": "a service has none",
    "build": "the image is built before, for all copies",
}  # fmt: skip
# the same of a service's `deploy`
DEPLOY_DROPPED: Final = {
    "update_config": "a copy is never updated", "rollback_config": "a copy is never updated",
    "labels": "the labels of a copy's services are stackyard's own",
}  # fmt: skip
JOB: Final = "exit 0"
NOT_TRIED_AGAIN: Final = "none"
SECOND: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """
    One model as a Swarm takes it.

    Attributes:
        services: Each service as ``POST /services/create`` has it, by its name in the file; ``Networks`` holds keys of
            `networks`, and files are not in it yet.
        names: The names of the services on the Swarm.
        networks: Networks that are used: whether each is internal.
        files: What each service reads.
        waits: What each service waits for, and with which condition of `depends_on`.
        changes: What is dropped or changed.
        refused: What keeps the model from a Swarm.
    """

    services: Mapping[str, dict[str, Any]] = field(repr=False)
    names: Mapping[str, str]
    networks: Mapping[str, bool]
    files: Mapping[str, list[File]] = field(repr=False)
    waits: Mapping[str, Mapping[str, str]]
    changes: tuple[Note, ...]
    refused: tuple[Note, ...] = ()

    def check(self) -> Translation:
        """
        Return the translation itself.

        Raises:
            UsageError: If a part of the model cannot be had on a Swarm; one line for each.
        """
        if self.refused:
            head = f"{len(self.refused)} parts of the project cannot run on a Swarm"
            raise UsageError(format_list(head, self.refused))
        return self


def translate(
    model: Mapping[str, Any],
    rules: Mapping[str, Rule],
    images: Mapping[str, str],
    labels: Mapping[str, str],
    variables: Mapping[str, str],
    *,
    graceful: bool = False,
) -> Translation:
    """
    Return the services of a copy, and what keeps it from a Swarm.

    Args:
        model: The model of its plan, each `$` doubled.
        rules: How each service proves usable.
        images: The image of each service, as the nodes get it.
        labels: Labels of everything that belongs to the copy.
        variables: The caller's variables, for secrets and configs that name one.
        graceful: Whether each service gets time to end by itself: its `stop_grace_period`.
    """
    plain = json.loads(json.dumps(model).replace("$$", "$"))
    check_soon(plain)
    notes = Notes()
    made = {
        name: _service(plain, name, rules[name], images[name], labels, notes)
        for name in rules
    }  # fmt: skip
    _let_end(plain, made, notes, graceful=graceful)
    read = {name: _files(plain, name, variables, notes) for name in rules}
    mounts.refuse_shared(plain, notes)
    used = _networks(plain, notes)
    return Translation(
        services=made, names={name: swarm_name(str(plain["name"]), name) for name in made}, networks=used, files=read,
        waits={name: _waits(plain, name, made) for name in made}, changes=tuple(notes.changed),
        refused=tuple(notes.refused),
    )  # fmt: skip


def swarm_name(project: str, key: str) -> str:
    """Return the name of something of a copy on the Swarm, which takes 63 characters."""
    import hashlib

    whole = f"{project}_{key}"
    return whole if len(whole) <= 63 else f"{whole[:54]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"  # noqa: PLR2004


def _service(
    model: Mapping[str, Any], name: str, rule: Rule, image: str, labels: Mapping[str, str], notes: Notes
) -> dict[str, Any]:  # fmt: skip
    spec, where = model["services"][name], f"services.{name}"
    _refuse(spec, where, notes)
    body = _body(spec, where, notes)
    inside, resources = containers.spec(body, spec, where, notes), containers.resources(body, spec, where, notes)
    own = {**labels, SERVICE_LABEL: name}
    inside |= {
        "Image": image, "Labels": {**(spec.get("labels") or {}), **own},
        "Env": [key if value is None else f"{key}={value}" for key, value in (spec.get("environment") or {}).items()],
        "Mounts": mounts.translate(model, name, where, notes),
    }  # fmt: skip
    if rule.kind == "command":
        inside["Healthcheck"] = containers.client_check(rule)
        notes.change(f"{where}.healthcheck", f"the nodes run {rule.why.partition(': ')[2] or 'its client'} as a check")
    template = {
        "ContainerSpec": inside, "Resources": resources, "RestartPolicy": _restart(spec, rule, where, notes),
        "Placement": _placement(spec, where, notes), "Networks": _attached(model, name),
    }  # fmt: skip
    if logging := body["HostConfig"].get("LogConfig"):
        template["LogDriver"] = {"Name": logging["Type"], "Options": logging["Config"]}
    return {
        "TaskTemplate": template, "Labels": own, "Mode": _mode(spec, rule),
        "EndpointSpec": {"Mode": "dnsrr", "Ports": _ports(spec, where, notes)},
    }  # fmt: skip


def _let_end(
    model: Mapping[str, Any], made: Mapping[str, dict[str, Any]], notes: Notes, *, graceful: bool
) -> None:  # fmt: skip
    """Set how long each service has to end by itself; what a removal has to know of it stands in its labels."""
    for name, service in made.items():
        spec = model["services"][name]
        grace = nanoseconds(spec.get("stop_grace_period") or f"{DEFAULT_GRACE}s") if graceful else 0
        service["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] = grace
        if graceful:
            needs = ",".join(sorted({*(spec.get("depends_on") or {})} & {*made}))
            service["Labels"] |= {GRACE_LABEL: str(-(-grace // SECOND)), NEEDS_LABEL: needs}
        elif spec.get("stop_grace_period"):
            notes.drop(f"services.{name}.stop_grace_period", "a copy is removed at once, unless it starts --graceful")


def _refuse(spec: Mapping[str, Any], where: str, notes: Notes) -> None:
    for key, why in REFUSED.items():
        if spec.get(key):
            notes.refuse(f"{where}.{key}", why)
    for key in NAMESPACES:
        value = str(spec.get(key) or "")
        if value.startswith(("host", "service:", "container:")):
            notes.refuse(f"{where}.{key}", f"{value}: a service has its own; run this project on one engine")
    if (spec.get("deploy") or {}).get("mode") == "global":
        notes.refuse(f"{where}.deploy.mode", "global: a copy has a fixed number of containers; use replicated")


def _body(spec: Mapping[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """Return the engine's own request for a container; name what has no place in one."""
    deploy = spec.get("deploy") or {}
    for key, why in DROPPED.items():
        if spec.get(key) and why:
            notes.drop(f"{where}.{key}", why)
    for key, why in DEPLOY_DROPPED.items():
        if deploy.get(key):
            notes.drop(f"{where}.deploy.{key}", why)
    if deploy.get("endpoint_mode") == "vip":
        notes.change(f"{where}.deploy.endpoint_mode", "dnsrr: names resolve to the containers' addresses")
    body: dict[str, Any] = {"HostConfig": {}}
    for key, value in spec.items():
        if key in OWN or key in DROPPED or key in REFUSED or key in NAMESPACES:
            continue
        try:
            fill(body, {key: value}, where)
        except UnsupportedModelError as error:
            notes.drop(error.place, "it has no meaning here")
    return body


def _restart(spec: Mapping[str, Any], rule: Rule, where: str, notes: Notes) -> dict[str, Any]:
    """Return the restart policy; a service that is not restarted is not moved from a lost node either."""
    policy = (spec.get("deploy") or {}).get("restart_policy") or {}
    name, _, count = str(spec.get("restart") or "no").partition(":")
    condition = str(policy.get("condition") or {"no": NOT_TRIED_AGAIN}.get(name, "on-failure"))
    if spec.get("restart") and not policy:
        notes.change(f"{where}.restart", f"restart_policy {condition}, which also moves it from a lost node"
                     if condition != NOT_TRIED_AGAIN else f"restart_policy {condition}")  # fmt: skip
    if rule.kind == JOB and condition == "any":
        condition = "on-failure"
    window = {"Window": nanoseconds(policy["window"])} if policy.get("window") else {}
    return {
        "Condition": condition, "MaxAttempts": int(policy.get("max_attempts") or count or 0),
        "Delay": nanoseconds(policy.get("delay") or "1s"), **window,
    }  # fmt: skip


def _placement(spec: Mapping[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    placement = (spec.get("deploy") or {}).get("placement") or {}
    if placement.get("preferences"):
        notes.drop(f"{where}.deploy.placement.preferences", "the Swarm spreads services by its own rules")
    found = {"Constraints": placement.get("constraints"), "MaxReplicas": placement.get("max_replicas_per_node")}
    return {key: value for key, value in found.items() if value}


def _mode(spec: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    count = copies_of(spec)
    if rule.kind == JOB:
        return {"ReplicatedJob": {"MaxConcurrent": count, "TotalCompletions": count}}
    return {"Replicated": {"Replicas": count}}


def _ports(spec: Mapping[str, Any], where: str, notes: Notes) -> list[dict[str, Any]]:
    found = {(int(entry["target"]), str(entry.get("protocol") or "tcp")): entry for entry in spec.get("ports") or ()}
    for index, entry in enumerate(spec.get("ports") or ()):
        before = entry.get("published") or "any"
        notes.change(f"{where}.ports[{index}]", f"a free port on all addresses of its node, instead of {before}")
    return [{"TargetPort": target, "Protocol": kind, "PublishMode": "host"} for target, kind in found]


def _attached(model: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    spec = model["services"][name]
    found = []
    for key, settings in (spec.get("networks") or {}).items():
        aliases = [name, *((settings or {}).get("aliases") or ()), spec.get("container_name"), *_linked(model, name)]
        found.append({"Target": key, "Aliases": list(dict.fromkeys(filter(None, aliases)))})
    return found


def _linked(model: Mapping[str, Any], name: str) -> list[str]:
    """Return the names that other services give to *name* in their `links`."""
    links = [link.partition(":") for spec in model["services"].values() for link in spec.get("links") or ()]
    return [alias for target, _, alias in links if target == name and alias]


def _networks(model: Mapping[str, Any], notes: Notes) -> dict[str, bool]:
    used = {key for spec in model["services"].values() for key in spec.get("networks") or {}}
    for key in used:
        spec = model["networks"].get(key) or {}
        if spec.get("external"):
            notes.refuse(f"networks.{key}", "all copies share it, and it is no network of the Swarm")
        if str(spec.get("driver") or "bridge") not in {"bridge", "overlay", "default"}:
            notes.change(f"networks.{key}.driver", "overlay, the one network of a Swarm that spans nodes")
        for word in ("driver_opts", "enable_ipv6"):
            if spec.get(word):
                notes.drop(f"networks.{key}.{word}", "an overlay network has none")
        if (spec.get("ipam") or {}).get("config"):
            notes.change(f"networks.{key}.ipam", "a subnet of the Swarm's own pool")
    for name, service in model["services"].items():
        for key, settings in (service.get("networks") or {}).items():
            if any((settings or {}).get(word) for word in ("ipv4_address", "ipv6_address")):
                notes.refuse(
                    f"services.{name}.networks.{key}", "a fixed address: the Swarm gives addresses; use the name"
                )
    return {key: bool((model["networks"].get(key) or {}).get("internal")) for key in sorted(used)}


def _files(
    model: Mapping[str, Any], name: str, variables: Mapping[str, str], notes: Notes
) -> list[File]:  # fmt: skip
    spec, found = model["services"][name], list[files.File]()
    for index, mount in enumerate(spec.get("volumes") or ()):
        if mount.get("type") == "bind":
            place = f"services.{name}.volumes[{index}]"
            try:
                found += (new := files.bound(mount))
            except files.UnfitError as error:
                notes.refuse(place, str(error))
            else:
                notes.change(place, f"{len(new)} {'config' if len(new) == 1 else 'configs'} with the present content")
    for kind in ("secret", "config"):
        for entry in spec.get(f"{kind}s") or ():
            try:
                found.append(files.named(kind, entry, (model.get(f"{kind}s") or {})[entry["source"]], variables))
            except files.UnfitError as error:
                notes.refuse(f"{kind}s.{entry['source']}", str(error))
    return found


def _waits(model: Mapping[str, Any], name: str, made: Mapping[str, Any]) -> dict[str, str]:
    needed = model["services"][name].get("depends_on") or {}
    return {
        other: str((entry or {}).get("condition") or "service_started")
        for other, entry in needed.items() if other in made
    }  # fmt: skip
