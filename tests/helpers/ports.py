"""Ports of this machine on which processes find each other."""

import random
import socket


def free_port():
    """Return a port below those that Linux gives to clients: no connection takes it before its process listens."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as server:
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
