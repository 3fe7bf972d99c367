"""Settings of all the tests."""

from __future__ import annotations

import signal

# A build server may start us with SIGINT ignored, as a shell does with what it runs in the background; Python then
# installs no handler, and every child inherits it: nothing would ever see Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
