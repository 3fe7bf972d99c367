"""A shop after Django with Celery. The first word says which part: migrate, web, worker or beat."""

import asyncio
import os
import sys
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped] # it ships no types
import redis
from serving import serve

QUEUE: Any = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"])


def sql(statement: str, *values: object) -> list[str]:
    async def ask() -> list[str]:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        try:
            return [row[0] for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def migrate() -> None:
    sql("CREATE TABLE orders (name text PRIMARY KEY)")


def web() -> None:
    sql("SELECT name FROM orders")  # as Django does: it fails if nothing has been migrated
    serve(8000, write=lambda item: QUEUE.rpush("orders", item), read=lambda: sql("SELECT name FROM orders ORDER BY 1"))


def worker() -> None:
    while True:
        _, item = QUEUE.blpop("orders")
        sql("INSERT INTO orders VALUES ($1)", item.decode())


def beat() -> None:
    while True:
        QUEUE.set("beat", time.time())
        time.sleep(1)


{"migrate": migrate, "web": web, "worker": worker, "beat": beat}[sys.argv[1]]()
