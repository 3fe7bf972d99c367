"""The command lines of this project's front ends, for the actions that the library's texts advise."""

from __future__ import annotations

from typing import Final

from stackyard._util.advice import Action

COMMANDS: Final = {
    Action.BENCH: "./noxw -s bench",
    Action.BENCH_FULL: "./noxw -s bench -- --full",
    Action.BENCH_STARTS: "./noxw -s bench -- startup",
    Action.BUILD: "invoke images.build",
    Action.BUILD_FLAVOUR: "invoke images.build --flavour {flavour}",
    Action.CHECK_HOST: "invoke doctor",
    Action.CLEAN_UP: "invoke cleanup.stale",
    Action.CLEAN_UP_ALL: "invoke cleanup.all",
    Action.CLEAN_UP_IMAGES: "invoke cleanup.images",
    Action.END: "invoke env.down --name {name}",
    Action.EXECUTE: "invoke env.exec redis -- redis-cli ping",
    Action.EXTEND: "invoke ports.renew --name {name} --ttl 4h",
    Action.INSTALL: "./noxw --setup-only --yes",
    Action.INSTALL_BROWSER: "./noxw -s browser -- --yes",
    Action.KEEP: "invoke env.up --environment {environment} --keep",
    Action.LEASES: "invoke ports.list",
    Action.LOGS: "invoke env.logs",
    Action.MEND_HOST: "invoke doctor --fix",
    Action.REMOVE: "invoke env.down --name {name}",
    Action.RUN_REGISTRY: "stackyard site registry",
    Action.START: "./noxw -s {environment}",
    Action.START_ONE: "invoke env.up",
    Action.STATUS: "invoke env.status",
    Action.TEST: "./noxw -s test",
    Action.TRUST_REGISTRY: "stackyard site registry",
    Action.VERIFY: "./noxw -s verify",
    Action.WAIT: "invoke env.wait",
}
