"""Volumes and bind mounts: a copy writes to volumes of its own, and reads the user's files."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard.plan.names import rename
from stackyard.plan.records import Change, Concern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Where the usual images keep what they store, from their own documentation; a copy that wrote there through a bind
# mount would write into the user's data, and two database servers on one folder damage it.
DATA_FOLDERS: Final = (
    "/var/lib/postgresql", "/var/lib/mysql", "/var/lib/mariadb", "/data/db", "/data/configdb", "/var/lib/redis",
    "/var/lib/valkey", "/var/lib/rabbitmq", "/var/lib/elasticsearch", "/usr/share/elasticsearch/data",
    "/usr/share/opensearch/data", "/var/lib/clickhouse", "/var/lib/cassandra", "/var/lib/neo4j", "/var/lib/influxdb",
    "/var/lib/influxdb2", "/var/lib/grafana", "/prometheus", "/qdrant/storage", "/var/lib/kafka", "/bitnami",
    "/var/lib/etcd", "/etcd-data", "/consul/data", "/vault/file", "/var/lib/ldap", "/var/opt/mssql",
    "/opt/oracle/oradata", "/var/lib/couchdb", "/opt/couchdb/data", "/var/lib/minio", "/meili_data", "/nats",
)  # fmt: skip
DATA_BY_IMAGE: Final = {"redis": "/data", "valkey": "/data", "minio": "/data", "keydb": "/data", "dragonfly": "/data"}
# where a server has to keep its data: `-D` and `--dir` mean that only of these programs
DATA_OPTION: Final = re.compile(
    r"(?:--(?:datadir|dbpath)|\bpostgres\b.*? -D|\b(?:redis|valkey)-server\b.*? --dir)[ =]*['\"]?(/[^\s'\"]*)",
    re.DOTALL,
)
DATA: Final = "a database's folder: the copy would write into your data"
SOCKETS: Final = ("/var/run/docker.sock", "/run/docker.sock")


def isolate(
    model: dict[str, Any],
    project: str,
    shared: frozenset[str],
    usual: Mapping[str, Any],
    exists: Callable[[Path], bool] = files.exists,
) -> tuple[list[Change], list[Concern]]:
    """
    Give every volume of *model* the copy's name, and database folders of the checkout a volume instead.

    Args:
        model: The rendered model; it is changed.
        project: The copy's Compose project name.
        shared: Volumes that all copies use together.
        usual: The user's own model: its names are those of what is shared.
        exists: Tells whether a path of the host is there.
    """
    kept = model.get("volumes") or {}
    changes, concerns = list[Change](), list[Concern]()
    for key in kept:
        if key in shared:
            kept[key] = {"name": usual["volumes"][key]["name"], "external": True}
            concerns.append(_shared(key, kept[key]))
        else:
            changes += rename("volume", key, kept[key], project)
            changes += _without_device(model, key, kept[key])
            concerns += _device_concerns(key, kept[key], exists)
    for name, service in model["services"].items():
        for index, mount in enumerate(service.get("volumes") or ()):
            if mount.get("type") != "bind":
                continue
            place = f"services.{name}.volumes[{index}]"
            if holds_data(service, mount):
                changes.append(_make_volume(model, project, name, place, mount))
            else:
                concerns += bind_concerns(place, mount, exists)
    return changes, concerns


def device(volume: Mapping[str, Any]) -> str:
    """Return the folder, or network share, that a volume's options name as its content; empty if it has its own."""
    options = volume.get("driver_opts") or {}
    return str(options.get("device") or "") if options.get("type") != "tmpfs" else ""


def _without_device(model: Mapping[str, Any], key: str, volume: dict[str, Any]) -> Iterator[Change]:
    """Give a volume that is a database's folder elsewhere a content of its own."""
    if not (before := device(volume)):
        return
    mounts = [
        (service, mount) for service in model["services"].values() for mount in service.get("volumes") or ()
        if mount.get("type") == "volume" and mount.get("source") == key
    ]  # fmt: skip
    if any(holds_data(service, mount) for service, mount in mounts):
        del volume["driver_opts"]
        yield Change(kind="volume", place=f"volumes.{key}.driver_opts", before=before, after="a plain volume", why=DATA)


def _device_concerns(key: str, volume: Mapping[str, Any], exists: Callable[[Path], bool]) -> Iterator[Concern]:
    place, found = f"volumes.{key}.driver_opts.device", device(volume)
    if found.startswith("/") and "bind" in str(volume["driver_opts"].get("o")) and not exists(Path(found)):
        yield absent(place, found, exists)
    elif found:
        yield Concern(
            level="careful", place=place, text=f"the volume's content is {found}", advice="all copies write to it"
        )  # fmt: skip


def _shared(key: str, volume: dict[str, Any]) -> Concern:
    return Concern(
        level="careful", place=f"volumes.{key}", text=f"all copies share volume {volume.get('name')}",
        advice="copies that write to it disturb each other",
    )  # fmt: skip


def holds_data(service: Mapping[str, Any], mount: Mapping[str, Any]) -> bool:
    """Say whether a service writes a database's files to *mount*."""
    if mount.get("read_only"):
        return False
    target = PurePosixPath(str(mount.get("target") or "/"))
    image = re.split(r"[:@]", str(service.get("image") or "").rpartition("/")[2])[0]
    named = [*map(PurePosixPath, _data_folders_of(service))]
    folders = [PurePosixPath(folder) for folder in (*DATA_FOLDERS, *filter(None, [DATA_BY_IMAGE.get(image)]))]
    around = target in {folder.parent for folder in named} and "build" not in service
    return around or any(target == folder or folder in target.parents for folder in (*named, *folders))


def _data_folders_of(service: Mapping[str, Any]) -> Iterator[str]:
    """Give the folders in which the settings of a service keep a database."""
    given = service.get("environment")
    if (folder := given.get("PGDATA") if isinstance(given, dict) else None) and str(folder).startswith("/"):
        yield str(folder)
    words = [service.get(key) or [] for key in ("entrypoint", "command")]
    text = " ".join(str(word) for found in words for word in ([found] if isinstance(found, str) else found))
    yield from DATA_OPTION.findall(text)


def _make_volume(model: dict[str, Any], project: str, service: str, place: str, mount: dict[str, Any]) -> Change:
    slug = re.sub(r"[^a-z0-9]+", "-", str(mount["target"]).lower()).strip("-")
    key = f"{service}-{slug}"
    before = f"{mount.get('source')}:{mount['target']}"
    volumes = model["volumes"] = model.get("volumes") or {}
    volumes[key] = {"name": f"{project}_{key}"}
    target, kept = mount["target"], {key: mount[key] for key in ("consistency",) if key in mount}
    mount.clear()
    mount.update({"type": "volume", "source": key, "target": target, "volume": {}, **kept})
    return Change(kind="volume", place=place, before=before, after=f"volume {key}", why=DATA)


def bind_concerns(place: str, mount: Mapping[str, Any], exists: Callable[[Path], bool]) -> Iterator[Concern]:
    """Return what a user has to know of a bind mount that stays as it is."""
    source = str(mount.get("source") or "")
    if source in SOCKETS:
        yield Concern(
            level="careful", place=place, text="mounts the engine's socket",
            advice="what the service starts through it is not part of the copy and is not removed with it",
        )  # fmt: skip
    elif not exists(Path(source)):
        made = mount.get("bind", {}).get("create_host_path", True)
        if mount.get("read_only") or not made or PurePosixPath(source).suffix:
            yield absent(place, source, exists)
        else:
            yield Concern(
                level="careful", place=place, text=f"{source} does not exist",
                advice="the engine creates it, as root, and all copies write to it",
            )  # fmt: skip


def absent(place: str, path: str, exists: Callable[[Path], bool]) -> Concern:
    """Return the concern about a path that is not there, with the template next to it if there is one."""
    template = files.template_of(Path(path), exists)
    advice = f"copy {template} to it" if template else "create it"
    return Concern(level="not possible", place=place, text=f"{path} does not exist", advice=advice)
