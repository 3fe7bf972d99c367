"""A web front that logs in at the directory for each request and keeps its items in the document store."""

import os

from directory import bind, secret
from documents import ask
from serving import serve


def _log_in() -> None:
    if not bind(os.environ["LDAP_HOST"], os.environ["LDAP_ADMIN"], secret()):
        raise PermissionError("the directory refuses the login")


def write(item: str) -> None:
    _log_in()
    ask(os.environ["MONGO_HOST"], {"insert": "items", "documents": [{"name": item}]})


def read() -> list[str]:
    _log_in()
    found = ask(os.environ["MONGO_HOST"], {"find": "items"})
    return [item["name"] for item in found["cursor"]["firstBatch"]]


if __name__ == "__main__":
    serve(3000, write=write, read=read)
