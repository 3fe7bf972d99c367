"""The platform's backend: threads and messages over HTTP, new messages over WebSocket."""
