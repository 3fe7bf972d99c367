"""`python3 -m auth_service`: serve until SIGTERM."""

import sys

from platform_common.server import serve

from auth_service.app import build

if __name__ == "__main__":
    sys.exit(serve("auth", build))
