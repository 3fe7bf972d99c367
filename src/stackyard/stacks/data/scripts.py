"""
The commands of the clients inside PostgreSQL's and Redis's containers that save data and bring it back.

PostgreSQL keeps a copy of each database under a name of its own, and a list of them in the database `stackyard_state`.
A reset makes a new copy of each copy, ends the sessions of the live database, and renames both in one transaction.
What a killed reset leaves has names of its own, too, and the next one removes it. Roles belong to the whole server and
stay as they are.
"""

from __future__ import annotations

from typing import Final

from stackyard.probes.known_databases import POSTGRES_LOGIN, REDIS_LOGIN

_ASK: Final = (
    POSTGRES_LOGIN
    + """
ask() { "$client" -X -q -w -h "$host" -p "$port" -U "$user" -v ON_ERROR_STOP=1 -At "$@" >/dev/null; }
"""
)

_FUNCTIONS: Final = r"""
CREATE TABLE kept (name text PRIMARY KEY, copy text NOT NULL, owner text NOT NULL);
CREATE FUNCTION seclude(wanted text) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
  FOR tries IN 1..2000 LOOP
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = wanted;
    PERFORM pg_stat_clear_snapshot();
    IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = wanted) THEN RETURN; END IF;
    PERFORM pg_sleep(0.003);
  END LOOP;
  RAISE EXCEPTION 'database % has a session that does not end', wanted;
END $body$;
-- CREATE DATABASE copies neither rights nor settings of the database itself
CREATE FUNCTION dress(source text, target text) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
  IF EXISTS (SELECT FROM pg_database WHERE datname = source AND (datacl IS NOT NULL OR datconnlimit <> -1)) THEN
    UPDATE pg_database made SET datacl = own.datacl, datconnlimit = own.datconnlimit
      FROM pg_database own WHERE own.datname = source AND made.datname = target;
  END IF;
  IF EXISTS (SELECT FROM pg_db_role_setting JOIN pg_database ON oid = setdatabase WHERE datname = source) THEN
    INSERT INTO pg_db_role_setting SELECT made.oid, setrole, setconfig
      FROM pg_db_role_setting JOIN pg_database own ON own.oid = setdatabase, pg_database made
      WHERE own.datname = source AND made.datname = target;
  END IF;
END $body$;
"""
# a killed command's client may still be at work inside the container; its session ends when it is through
_ALONE: Final = "SELECT pg_advisory_lock(hashtext('stackyard'));\n"
_OWN: Final = r"NOT datistemplate AND datname NOT LIKE 'stackyard\_%' AND pg_has_role(datdba, 'USAGE')"
_KEEP: Final = rf"""INSERT INTO kept SELECT datname, 'stackyard_kept_' || oid, pg_get_userbyid(datdba) FROM pg_database
  WHERE datallowconn AND {_OWN};
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', name), format('SELECT seclude(%L)', name),
  format('CREATE DATABASE %I TEMPLATE %I OWNER %I', copy, name, owner), format('SELECT dress(%L, %L)', name, copy),
  format('ALTER DATABASE %I ALLOW_CONNECTIONS false', copy), format('ALTER DATABASE %I ALLOW_CONNECTIONS true', name)
  FROM kept \gexec
"""  # noqa: S608 - both parts are in this module
_RESET: Final = rf"""
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname), format('SELECT seclude(%L)', datname),
  format('DROP DATABASE %I', datname) FROM pg_database
  WHERE datname ~ '^stackyard_(next|old)_' OR ({_OWN} AND datname NOT IN (SELECT name FROM kept)) \gexec
SELECT format('CREATE DATABASE %I TEMPLATE %I OWNER %I', next, copy, owner), format('SELECT dress(%L, %L)', copy, next),
  CASE WHEN live THEN format('ALTER DATABASE %I ALLOW_CONNECTIONS false', name) END,
  CASE WHEN live THEN format('SELECT seclude(%L)', name) END,
  'BEGIN', CASE WHEN live THEN format('ALTER DATABASE %I RENAME TO %I', name, old) END,
  format('ALTER DATABASE %I RENAME TO %I', next, name), 'COMMIT',
  CASE WHEN live THEN format('DROP DATABASE %I', old) END
  FROM (SELECT *, replace(copy, 'kept', 'next') AS next, replace(copy, 'kept', 'old') AS old,
    EXISTS (SELECT FROM pg_database WHERE datname = name) AS live FROM kept) AS each \gexec
"""  # noqa: S608 - as above
_OPEN: Final = "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', name) FROM kept \\gexec\n"

POSTGRES_KEEP: Final = f"""{_ASK}
for place in postgres "${{database:-$user}}" template1; do
  complaint=$(ask -d "$place" -c 'CREATE DATABASE stackyard_state TEMPLATE template0' 2>&1) && complaint= && break
done
[ -z "$complaint" ] || {{ echo "$complaint" >&2; exit 1; }}
ask -d stackyard_state <<'SQL' || {{ code=$?; ask -d stackyard_state <<'SQL'; exit $code; }}
{_ALONE}{_FUNCTIONS}{_KEEP}SQL
{_OPEN}SQL
"""
POSTGRES_RESET: Final = f"""{_ASK}
ask -d stackyard_state <<'SQL' || {{ code=$?; ask -d stackyard_state <<'SQL'; exit $code; }}
{_ALONE}{_RESET}SQL
{_OPEN}SQL
"""
# the third argument is the name of a test's own database
POSTGRES_CREATE: Final = rf"""{_ASK}
ask -d stackyard_state -v made="$3" -v source="${{database:-$user}}" <<'SQL'
SELECT format('CREATE DATABASE %I TEMPLATE %I OWNER %I', :'made', copy, owner),
  format('SELECT dress(%L, %L)', copy, :'made') FROM kept WHERE name = :'source' \gexec
SQL
[ $? = 0 ] && ask -d "$3" -c 'SELECT 1'
"""  # noqa: S608 - psql quotes both names
POSTGRES_DROP: Final = rf"""{_ASK}
ask -d stackyard_state -v made="$3" <<'SQL'
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname), format('SELECT seclude(%L)', datname),
  format('DROP DATABASE %I', datname) FROM pg_database WHERE datname = :'made' \gexec
SQL
"""  # noqa: S608 - as above
_SAY: Final = (
    REDIS_LOGIN
    + """
say() {
  answer=$("$client" -h "$host" -p "$port" "$@" 2>&1) || { echo "$answer" >&2; exit 1; }
  case $answer in ERR*|NOAUTH*|NOPERM*|WRONGPASS*|READONLY*) echo "$answer" >&2; return 1;; esac
}
"""
)
# keys that were there after the start come back with the volume, if there is one
REDIS_KEEP: Final = f"""{_SAY}
say INFO keyspace || exit
case $answer in *db[0-9]*:keys=*) say SAVE; echo "it holds keys after the start" >&2; exit 1;; esac
"""
# a server older than 7 has no functions
REDIS_RESET: Final = f"""{_SAY}
say FLUSHALL && say SCRIPT FLUSH || exit
say FUNCTION FLUSH 2>/dev/null || true
"""
