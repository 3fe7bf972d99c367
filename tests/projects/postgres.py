"""PostgreSQL from the platform's image as the service `db` of a project, its data in the volume `rows`."""

from __future__ import annotations

from typing import Final

_SERVICE: Final = """
  db:
    image: {postgres}
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD: secret}}
    entrypoint:
      - sh
      - -c
      - |
        [ -e "$$PGDATA/PG_VERSION" ] || cp -R /usr/share/stackyard/seed "$$PGDATA"
        : > /tmp/quiet.conf
        echo "ALTER ROLE app {rights} PASSWORD '$$POSTGRES_PASSWORD'" \\
          | postgres --single -D "$$PGDATA" app > /dev/null
        exec postgres -D "$$PGDATA" -c config_file=/etc/postgresql/postgresql.conf
    healthcheck: {{disable: true}}
    ports: ["15432:5432"]
    volumes: ["rows:/var/lib/postgresql"]
"""


def database(image: str, *, rights: str) -> str:
    """Return the service as lines below `services:`; its user `app` is a SUPERUSER or NOSUPERUSER."""
    return _SERVICE.format(postgres=image, rights=rights)
