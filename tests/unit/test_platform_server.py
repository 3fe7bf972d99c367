from __future__ import annotations

import asyncio
import socket

from platform_common import server


async def _accepted_delays() -> bool:
    """Serve one connection with the platform's listener; say whether its small writes wait for the client's ACK."""
    met: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        met.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
        writer.close()

    listener = server._listener(0)
    async with await asyncio.start_server(meet, sock=listener):
        _, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        writer.close()
        return await met


def test_an_answer_in_two_pieces_does_not_wait_for_the_client_to_confirm_the_first() -> None:
    assert not asyncio.run(_accepted_delays())
