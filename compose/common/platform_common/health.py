"""Container health check, `python3 -S platform_common/health.py`: exit code 0 if this service's /readyz answers 200."""

# Docker runs this in every container every few seconds, so what it imports is the price: the C module below `socket`
# and no `site` take 10 ms of CPU together, where `http.client` takes 40.
import _socket
import os
import sys

LIMIT = 2.8  # seconds; a readiness answer takes at most 2.5
MOST = 4096  # bytes of it that anybody wants to see


def main() -> int:
    """Ask once; on failure print what came instead."""
    try:
        answer = ask(int(os.environ.get("PORT", "8000")))
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    head, _, body = answer.partition("\r\n\r\n")
    status = head.split(" ")[1:2]
    sys.stdout.write(f"{' '.join(status) or 'no HTTP'} {body}\n")
    return 0 if status == ["200"] else 1


def ask(port: int) -> str:
    """Return the answer of `GET /readyz`, head and body."""
    link = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    link.settimeout(LIMIT)
    link.connect(("127.0.0.1", port))
    link.sendall(b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    answer = b""
    while len(answer) < MOST and (part := link.recv(MOST)):
        answer += part
    return answer.decode(errors="replace")


if __name__ == "__main__":
    # Not through the interpreter's own tear-down, which takes longer than the question.
    code = main()
    sys.stdout.flush()
    os._exit(code)
