"""A web front that keeps its items in a list of Redis."""

import os
from typing import Any

import redis
from serving import serve

STORE: Any = redis.Redis(host=os.environ["REDIS_HOST"], decode_responses=True)

serve(8000, write=lambda item: STORE.rpush("items", item), read=lambda: STORE.lrange("items", 0, -1))
