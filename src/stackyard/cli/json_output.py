"""
The shape of every task's ``--json``, as JSON Schema; docs/reference/json.md is written from it.

A key means one thing everywhere: `lease` is a lease's id and `name`, next to it, the lease's name; moments are seconds
since 1970; lengths of time are `seconds` or end in `_seconds`; sizes end in `_bytes`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

Schema = dict[str, Any]


def _plain(kind: str, meaning: str) -> Schema:
    return {"type": kind, "description": meaning}


_text = partial(_plain, "string")
_count = partial(_plain, "integer")
_number = partial(_plain, "number")
_flag = partial(_plain, "boolean")


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _list(of: Schema, meaning: str = "") -> Schema:
    return {"type": "array", "items": of, "description": meaning}


def _texts(meaning: str) -> Schema:
    return _list({"type": "string"}, meaning)


def _map(of: Schema, meaning: str) -> Schema:
    return {"type": "object", "additionalProperties": of, "description": meaning}


def _object(meaning: str = "", /, **keys: Schema) -> Schema:
    """Return the shape of an object that has exactly *keys*."""
    return {
        "type": "object", "properties": keys, "required": list(keys), "additionalProperties": False,
        "description": meaning,
    }  # fmt: skip


SECONDS: Final = _number("How long it took.")
MOMENT: Final = "Seconds since 1970."
IDENTITY: Final = {
    "lease": _text("The lease's id."),
    "name": _or_null(_text("The lease's name.")),
    "environment": _text("The environment."),
}
BYTES: Final = _or_null(_count("Bytes; null if it could not be measured."))
LEASE: Final = {
    **IDENTITY,
    "slot": _or_null(_count("Its slot in the port pool; null on an environment's own ports.")),
    "ports": _map({"type": "integer"}, "Host port of each service."),
    "spare": _list({"type": "integer"}, "Host ports of the lease that no service of the platform listens on."),
    "subnet": _text("IPv4 network of its containers."),
    "project": _text("Compose project."),
    "owner": _text("What keeps it alive: a process, or its deadline alone."),
    "created": _number(f"When it was granted. {MOMENT}"),
    "deadline": _or_null(_number(f"When it ends unless renewed; null if only its owner ends it. {MOMENT}")),
    "removing": _flag("Whether its stack is being removed."),
    "memory_bytes": _count("Memory that it reserves."),
    "env_file": _text("File with all variables of its stack."),
    "checkout": _text("Directory of the project that it is of; empty if its env file cannot be read."),
}
REMOVAL: Final = _object(
    removed=_texts("What was removed: kind and name."),
    left=_list(
        _object(
            kind=_text("container, network or volume."), name=_text("Its own name."), lease=_text("The lease's id."),
            reason=_text("Why it is still there."),
        ),
        "What could not be removed.",
    ),
    leases=_texts("Ids of the leases that were released."),
    seconds=SECONDS,
)  # fmt: skip
PLAN: Final = _list(_object(
    command=_text("stale or all: the clean-up that removes it."), kind=_text("lease, container, network or volume."),
    name=_text("Its own name; of a lease, its Compose project."), lease=_text("The lease's id."),
    environment=_text("The environment."), owner=_text("What keeps the lease alive; may be empty."),
    alive=_flag("Whether the owner lives."), deadline=_or_null(_number(f"When the lease ends. {MOMENT}")),
    user=_text("Whose the lease's files are."), why=_text("The reason."),
))  # fmt: skip
IMAGE: Final = _object(
    service=_text("The service."), flavour=_text("debian or alpine."), reference=_text("Name and tag."),
    size_bytes=_count("Size."), created=_number(f"When it was built. {MOMENT}"), base=_text("Its base image."),
    source=_text("Where its parts come from: registry or packages."), id=_text("The engine's id."),
)  # fmt: skip
SURPLUS: Final = _list(_object(
    name=_text("Name, or id of an image without one."), image=_text("The engine's id."), size_bytes=_count("Size."),
    shared_bytes=_count("How much of it other images need too."), created=_number(f"When it was built. {MOMENT}"),
    why=_text("The reason."), project=_text("The copied project that it was built for; empty for the platform's."),
))  # fmt: skip
CLEARED: Final = _object(
    removed=_texts("Images that are gone."), left=_list(_texts("Name and reason."), "Images that are still there."),
    kept=_list(_texts("Name and reason."), "Images that something needs by now."),
    freed_bytes=_count("Bytes that the engine's layers take less than before."),
)  # fmt: skip
EXIT_CODE: Final = _or_null(_count("Exit code of its last end; null while it runs, and before it has run."))
SERVICE: Final = _object(
    service=_text("The service."), status=_text("The container's state: running, exited and so on, or missing."),
    health=_text("healthy, unhealthy, starting or none."), memory_bytes=BYTES, limit_bytes=BYTES,
    restarts=_count("How often the engine has restarted it."), exit_code=EXIT_CODE,
)  # fmt: skip
PROBES: Final = _list(_object(service=_text("The service."), seconds=_number("Until its probe passed.")))
USAGE: Final = _or_null(_object(
    "What it uses; null while it does not run.",
    cpu_seconds=_number("CPU time since its start."), cpus=_or_null(_number("CPUs it may use; null without a limit.")),
    memory_bytes=_count("In use."), memory_limit_bytes=_count("Its limit."),
    memory_peak_bytes=_or_null(_count("The most ever in use.")), pids=_count("Processes and threads."),
    pids_limit=_or_null(_count("Their limit.")), oom_kills=_count("Processes that the kernel ended."),
))  # fmt: skip
SNAPSHOT: Final = _object(
    seconds=SECONDS,
    services=_list(_object(
        **IDENTITY, service=_text("The service."), up=_flag("Whether it runs and is not unhealthy."),
        status=_text("The container's state, or missing."), health=_text("healthy, unhealthy, starting or none."),
        restarts=_or_null(_count("How often the engine has restarted it.")),
        oom_killed=_or_null(_flag("Whether the kernel ended it for want of memory.")),
        exit_code=EXIT_CODE,
        cpu_percent=_or_null(_number("CPU use since the look before; 100 is one CPU.")), usage=USAGE,
    )),
)  # fmt: skip
REPORT: Final = _object(
    seconds=SECONDS, looks=_count("How often a check looked at a target."),
    findings=_list(_object(
        check=_text("The check's id; docs/checks.md explains it."), target=_text("What was looked at."),
        severity=_text("error, warning or info."), found=_text("What is there."), fix=_text("How to fix it."),
        line=_or_null(_count("Line of the file.")), waived=_text("Why it may stay; empty if nothing excuses it."),
    )),
    detections=_map(
        _list(_object(
            fault=_text("What was done to the service."), service=_text("The service."),
            seconds=_or_null(_number("Until the status showed it; null if it never did.")),
            limit=_number("Seconds it may take."), shown=_text("What the status said."),
        )),
        "For each environment how soon faults were noticed.",
    ),
    files=_texts("Files that were written."),
)  # fmt: skip
RUN: Final = {
    "type": "object", "description": "One line of reports/history.jsonl; docs/benchmarks.md describes its figures.",
    "required": ["id", "when", "commit", "suites", "depth", "results", "seconds", "version"],
    "properties": {
        "id": _text("The run's id."), "when": _text("When it began, ISO 8601 in UTC."),
        "commit": _or_null(_text("The commit measured.")), "suites": _texts("What was measured."),
        "depth": _text("quick, default or full."), "results": _list({"type": "object"}, "The figures."),
        "seconds": SECONDS, "version": _count("Version of this shape."),
    },
}  # fmt: skip
COMPARISON: Final = _object(
    base=_text("Id of the run to compare with."), candidate=_text("Id of the run to judge."),
    rows=_list(_object(
        suite=_text("The suite."), row=_text("The row."), what=_text("The quantity."),
        unit=_text("Unit of both medians; x for a ratio to plain Compose."), base=_number("Median of the one run."),
        candidate=_number("Median of the other."), ratio=_number("candidate / base."),
        chance=_or_null(_number("Probability that this is chance; null for too few samples.")),
        relative=_flag("Whether both are ratios to plain Compose."),
    )),
)  # fmt: skip
FILES: Final = _object(files=_texts("Files that were written."))

SHAPES: Final[dict[str, Schema]] = {
    "ports.allocate": _object(
        **LEASE, command=_text("Line that starts a stack on these ports."),
        end_command=_text("Line that removes the stack and the lease."),
    ),
    "ports.release": _object(**IDENTITY, released=_flag("Always true; a refusal is an error.")),
    "ports.renew": _object(**LEASE),
    "ports.list": _list(_object(**LEASE)),
    "ports.watch": _list(_object(**LEASE), "One line for each look."),
    "ports.check": _object(
        book=_text("ok, or what is wrong with the lease book."),
        leases=_list(_object(
            **IDENTITY, stale=_flag("Whether its owner has ended or it has expired."),
            owner=_text("What keeps it alive."), bound=_map({"type": "string"}, "Who listens on which of its ports."),
        )),
    ),
    "ports.gc": REMOVAL,
    "env.up": _object(
        **IDENTITY, project=_text("Compose project."), created=_number(f"When the lease was granted. {MOMENT}"),
        deadline=_or_null(_number(f"When the stack ends unless renewed; null if it stays. {MOMENT}")),
        env_file=_text("File with all variables of the stack."),
        urls=_map({"type": "string"}, "URL of each service, with credentials."),
        by=_text("Who made the containers: engine, compose, pool, or none if they ran already."),
        seconds=_number("Until every service had answered its probe."),
        waited_seconds=_number("Waited for its turn to start; not part of seconds."),
        containers_seconds=_number("Until every container was started."), probes=PROBES,
        steps=_list(_object(
            step=_text("The step."), begin_seconds=_number("Its begin."), end_seconds=_number("Its end."),
        )),
    ),
    "env.down": REMOVAL,
    "env.status": _object(
        **IDENTITY,
        deadline=_or_null(_number(f"When the stack ends unless renewed; null if it stays. {MOMENT}")),
        services=_list(SERVICE),
    ),
    "env.logs": _object(
        **IDENTITY, services=_list(_object(service=_text("The service."), lines=_texts("What it wrote."))),
    ),
    "env.exec": _object(
        **IDENTITY, service=_text("The service."), exit_code=_count("Exit code of the command."),
        stdout=_text("What it printed."), stderr=_text("What it printed to standard error."),
    ),
    "env.wait": _object(**IDENTITY, services=PROBES),
    "env.restart": _object(**IDENTITY, service=_text("The service.")),
    "env.reset": _object(
        **IDENTITY, seconds=SECONDS, copied_seconds=_number("Until a fresh database was there."),
        swapped_seconds=_number("Until it was in place."), emptied_seconds=_number("Until Redis was empty."),
    ),
    "env.capacity": _object(
        environment=_text("The environment."), stacks=_count("How many more stacks can start."),
        limit=_text("What there is least of: slots, networks or memory."), slots=_count("Stacks that the slots allow."),
        networks=_count("Stacks that the networks allow."),
        memory=_or_null(_count("Stacks that the memory allows; null if there is no limit.")),
        reserve_bytes=_count("Memory that one stack reserves."), booked_bytes=_count("Memory that leases reserve now."),
        total_bytes=BYTES, available_bytes=BYTES,
    ),
    "env.pool": _list(_object(
        environment=_text("The environment."), root=_text("The project's folder."),
        size=_count("Stacks to keep ready."), ready=_count("Stacks that are ready."),
    )),
    "cleanup.plan": PLAN,
    "cleanup.stale": {"anyOf": [REMOVAL, PLAN | {"description": "With --dry-run."}]},
    "cleanup.all": {"anyOf": [REMOVAL, PLAN | {"description": "With --dry-run."}]},
    "cleanup.images": {"anyOf": [CLEARED, SURPLUS | {"description": "With --dry-run."}]},
    "images.build": _object(seconds=SECONDS, images=_list(IMAGE)),
    "images.list": _list(IMAGE),
    "doctor": _list(_object(
        id=_text("The check's id."), title=_text("What was checked."),
        status=_text("ok, warn, fail, or unknown for what could not be looked at."), found=_text("What is there."),
        needed=_text("What should be there."), fix=_text("What to do; empty if nothing is needed."),
    )),
    "monitor.stats": SNAPSHOT | {"description": "One line for each look; with --once, one object."},
    "monitor.export": _list(_object(
        name=_text("The metric."), labels=_map({"type": "string"}, "Its labels."), value=_number("Its value."),
        type=_text("gauge, counter and so on."), help=_text("What it is."),
    ), "With --once."),
    "project.check": _object(
        project=_text("The project's name."),
        configuration=_or_null(_text("The file with the project's configuration.")),
        verdict=_text("copies, one at a time or not possible."),
        services=_object(
            running=_texts("Services that run."), one_shot=_texts("Services that end by themselves."),
            behind_profiles=_texts("Services that no enabled profile starts."),
        ),
        ports=_count("Host ports that one copy leases."),
        changes=_list(_object(
            kind=_text("What is changed."), place=_text("Path in the model."), before=_text("In the project's files."),
            after=_text("In the copy."), why=_text("The reason."),
        )),
        concerns=_list(_object(
            level=_text("careful, asks, one at a time or not possible."), place=_text("Path in the model."),
            text=_text("What it is."), advice=_text("What you can do."),
        )),
        ready=_list(_object(
            service=_text("The service."), kind=_text("What is asked."), why=_text("When it counts as ready, and why."),
        )),
        missing_images={
            **_list(_object(
                image=_text("As the Compose file has it."), services=_texts("Who needs it."),
                by=_text("What brings it: pull, build, or nothing, because its pull_policy is never."),
            ), "Images that a start has to get first; null if no engine answers, or on a Swarm."),
            "type": ["array", "null"],
        },
    ),
    "verify.dockerfiles": REPORT,
    "verify.images": REPORT,
    "verify.compose": REPORT,
    "verify.stack": REPORT,
    "verify.detection": REPORT,
    "verify.all": REPORT,
    "verify.docs": FILES,
    "bench.run": RUN,
    "bench.history": _list(RUN),
    "bench.compare": COMPARISON,
    "bench.gate": COMPARISON,
    "bench.report": FILES,
    "reaper.status": _object(
        running=_flag("Whether the reaper runs."), pid=_or_null(_count("Its process.")),
        since=_or_null(_number(f"When it started. {MOMENT}")), code=_text("Which stackyard it runs."),
        rss_bytes=BYTES, pss_bytes=BYTES, watched=_texts("Ids of the leases it watches."),
        warm=_texts("Ids of the warm stacks it keeps."), trouble=_text("What does not work; empty if nothing."),
    ),
    "reaper.stop": _object(stopped=_flag("Whether it ran.")),
}  # fmt: skip

COPY: Final = {
    **IDENTITY,
    "project": _text("Compose project."),
    "checkout": _text("Directory of the project that it is of."),
    "deadline": SHAPES["env.status"]["properties"]["deadline"],
}
ADDRESSES: Final = _list(_object(
    service=_text("The service."), target=_count("The container's port."), protocol=_text("tcp, udp or sctp."),
    host=_text("The host's address."), port=_count("The host's port."),
    url=_or_null(_text("The URL for programs, password included; null if its protocol is not known.")),
    published=_or_null(_text("The port as the Compose file publishes it, such as 8080:80; null where not known.")),
    browser=_or_null(_text("The link for a browser; null if it does not speak HTTP.")),
), "Where each published port answers.")  # fmt: skip
# what the console program prints for copies of a project; the other commands are those of SHAPES
CONSOLE: Final = {
    "check": SHAPES["project.check"],
    "up": _object(
        **COPY, seconds=_number("How long the start took; 0 for a copy that was running already."), ports=ADDRESSES,
        ready={
            **_list(_object(
                service=_text("The service."), rule=_object(kind=_text("What was asked."), why=_text("The reason.")),
                seconds=_number("Until it was ready."), how=_text("What it showed."),
                warning=_or_null(_text("What its user should know where the proof is not whole; else null.")),
            ), "How each service proved usable; null for a copy that was running already."),
            "type": ["array", "null"],
        },
        by=_text("Who made the containers: engine; compose, and why; or none if they ran already."),
        critical_path=_texts("The services that made the start as long as it was, each waiting for the one before."),
        started=_map(_number("Until all its containers were started."), "Each service, if the engine made it."),
    ),
    "down": _object(leases=_list(_object(**COPY), "The copies."), removals=_list(REMOVAL, "One for each copy.")),
    "ps": {"anyOf": [
        _list(_object(**COPY)),
        _object(
            **COPY,
            services=_list(_object(
                **{key: SERVICE["properties"][key] for key in ("service", "status", "health", "exit_code", "restarts")}
            )),
        ) | {"description": "With a name:"},
    ]},
    "site": _list(_object(
        site=_text("What --site calls it."), kind=_text("local, context or swarm."),
        engine=_text("Its engine's address."),
        answers=_flag("Whether the engine answers."), why=_or_null(_text("Why it does not answer.")),
        version=_or_null(_text("The engine's version.")), processors=_or_null(_count("Processors of its host.")),
        memory_bytes=_or_null(_count("Memory of its host.")),
        copies=_or_null(_count("Copies that have containers there, of all users and machines.")),
        heartbeat_seconds=_or_null(_number("Between two reports of a Swarm's nodes; null for one engine.")),
    )),
    "ports": _object(**COPY, ports=ADDRESSES),
    "env": _map({"type": "string"}, "Each variable with its value."),
    "logs": SHAPES["env.logs"],
    "exec": SHAPES["env.exec"],
    "reset": _object(
        **COPY, seconds=_number("Until each service was ready again."),
        services=_list(_object(
            service=_text("The service."), driver=_text("postgresql, redis, volumes; or none."),
            seconds=_number("How long that took."), what=_text("What was done, or why nothing."),
        )),
    ),
    "cleanup": SHAPES["cleanup.stale"],
    "cleanup-images": SHAPES["cleanup.images"],
    "doctor": SHAPES["doctor"],
}  # fmt: skip
