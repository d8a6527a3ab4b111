from __future__ import annotations

import socket
import time

from latentdiff.data.network import answers


def test_silent_and_refusing_servers_cost_no_more_than_asked():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        start = time.monotonic()
        assert not answers(address, 0.3)  # accepts the connection and never says a word
    assert not answers(address, 0.3)  # refuses
    assert time.monotonic() - start < 5
