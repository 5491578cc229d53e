"""A delay line between two network interfaces, for kernels without ``netem``.

Run inside of a namespace that holds both: ``python -m visa_ros.evaluation.network_relay A B``.
Each line on standard input sets delay and jitter [ms] from then on.
"""
from __future__ import annotations

import os
import random
import select
import socket
import sys
import time
from collections import deque
from contextlib import suppress

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_OUTGOING = 263, 15, 4
_ETH_P_ALL, _SO_RCVBUFFORCE = 3, 33
_BUFFER_BYTES = 16 << 20


def main() -> None:
    """Carry frames both ways until standard input ends."""
    with suppress(PermissionError):  # a busy machine must not add to the delay
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ports = [_port(name) for name in sys.argv[1:3]]
    lines: list[deque[tuple[float, bytes]]] = [deque(), deque()]
    delay_s = jitter_s = 0.0
    rng = random.Random(1)
    while True:
        due_s = min((line[0][0] for line in lines if line), default=None)
        ready, _, _ = select.select(
            [*ports, sys.stdin], [], [],
            None if due_s is None else max(0.0, due_s - time.monotonic()))
        if sys.stdin in ready:
            words = sys.stdin.readline().split()
            if not words:
                return
            delay_s, jitter_s = (float(word) / 1000 for word in words)
        now_s = time.monotonic()
        for port, line in zip(ports, lines, strict=True):
            if port in ready:
                late_s = now_s + delay_s + rng.uniform(-jitter_s, jitter_s)
                # order is kept, as by nearly every network
                _take(port, line, max(late_s, line[-1][0] if line else 0.0))
        for line, port in zip(lines, reversed(ports), strict=True):
            while line and line[0][0] <= time.monotonic():
                with suppress(OSError):  # full or down: the frame is lost, as on a wire
                    port.send(line.popleft()[1])


def _port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # Checksums that the sender's kernel left to its interface are carried along unfinished.
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    port.setblocking(False)
    port.bind((name, _ETH_P_ALL))
    return port


def _take(port: socket.socket, line: deque[tuple[float, bytes]], due_s: float) -> None:
    """Take what has arrived, but not what left here."""
    with suppress(BlockingIOError):
        for _ in range(64):
            frame, address = port.recvfrom(1 << 17)
            if address[2] != _PACKET_OUTGOING:
                line.append((due_s, frame))


if __name__ == '__main__':
    main()
