"""Container health check, `python3 -m platform_common.health`: exit code 0 if this service's /readyz answers 200."""

from __future__ import annotations

import http.client
import os
import sys

LIMIT = 2.0  # seconds; a readiness answer takes at most 1.5


def main() -> int:
    """Ask once; on failure print what came instead."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=LIMIT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(2048).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    sys.stdout.write(f"{answer.status} {text}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    # Not through the interpreter's own tear-down, which takes longer than the question.
    code = main()
    sys.stdout.flush()
    os._exit(code)
