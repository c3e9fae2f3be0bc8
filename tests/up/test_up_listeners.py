"""Ports are asked for before anything starts, and a refusal says which flag helps."""

import socket

import pytest

from portway.up.errors import UpError
from portway.up.listeners import Listener, check


def test_a_taken_port_is_one_line_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listener = Listener("127.0.0.1", port, "--secure-port", "--bind-address")
        with pytest.raises(UpError, match=rf"127.0.0.1:{port} is taken .* --secure-port"):
            check([listener])
    check([listener])


def test_a_port_that_others_share_counts_as_taken() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UpError, match="is taken"):
            check([Listener("127.0.0.1", taken.getsockname()[1], "--secure-port", "--bind-address")])


def test_an_address_of_another_machine_is_one_line() -> None:
    with pytest.raises(UpError, match=r"192\.0\.2\.1 is not an address of this machine.*--bind-address"):
        check([Listener("192.0.2.1", 6443, "--secure-port", "--bind-address")])
