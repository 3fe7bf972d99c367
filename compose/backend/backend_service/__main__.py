"""`python3 -m backend_service`: serve until SIGTERM."""

import sys

from platform_common.server import serve

from backend_service.app import build

if __name__ == "__main__":
    sys.exit(serve("backend", build))
