"""`python3 -m backend_service`: serve until SIGTERM."""

import gc
import sys

if __name__ == "__main__":
    # Nothing that is imported becomes garbage, and looking for it would take a tenth of the start; serve() ends this.
    gc.disable()

    from platform_common.lean import defer

    defer()

    from platform_common.server import serve

    from backend_service.app import build

    sys.exit(serve(build))
