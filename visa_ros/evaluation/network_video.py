"""The two ends of a video call by WebRTC, for comparison; ``network_streams`` starts them.

``python -m visa_ros.evaluation.network_video {send LOG CLIP,receive LOG}``.  The time of each
picture is drawn into it as blocks that survive the encoder, with a check sum, and read again where
it is shown.
"""
from __future__ import annotations

import asyncio
import sys
import time
import zlib
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visa_ros._optional import require
from visa_ros.capture.source import read_video
from visa_ros.types import UInt8

_WIDTH, _HEIGHT, _HZ = 640, 480, 30.0
_CLIP_FRAMES = 200
# aiortc goes no lower than 500 kbit/s; calls of today do (RFC 8836: from 150 kbit/s).
_LEAST_BITRATE = 100_000
_BLOCK, _BITS, _CHECK_BITS = 16, 48, 16
_ROWS = 2


def draw_stamp(luma: UInt8, stamp_ms: int) -> None:
    """
    Write a time into the top of a picture.

    Parameters
    ----------
    luma : (H, W) uint8
        Changed: 64 blocks of 16 px in two rows, dark for 0 and bright for 1.
    stamp_ms : int
        Milliseconds since the epoch.

    """
    bits = _bits(stamp_ms).reshape(_ROWS, -1)
    blocks = np.kron(np.where(bits, 210, 40).astype(np.uint8), np.ones((_BLOCK, _BLOCK), np.uint8))
    luma[:blocks.shape[0], :blocks.shape[1]] = blocks


def read_stamp(luma: UInt8) -> int | None:
    """Return the time in a picture [ms since the epoch]; None where it is damaged."""
    columns = (_BITS + _CHECK_BITS) // _ROWS
    blocks = luma[:_ROWS * _BLOCK, :columns * _BLOCK].reshape(_ROWS, _BLOCK, columns, _BLOCK)
    bits = blocks.mean((1, 3)).reshape(-1) > 125
    stamp_ms = int.from_bytes(np.packbits(bits[:_BITS]).tobytes(), 'big')
    return stamp_ms if np.array_equal(bits, _bits(stamp_ms)) else None


def _bits(stamp_ms: int) -> np.ndarray:
    data = stamp_ms.to_bytes(_BITS // 8, 'big')
    check = (zlib.crc32(data) & 0xffff).to_bytes(_CHECK_BITS // 8, 'big')
    return np.unpackbits(np.frombuffer(data + check, np.uint8)).astype(bool)


def _clip(path: Path) -> list[UInt8]:
    """Return pictures of the clip, cut to 4:3 and scaled, as YUV 4:2:0."""
    pictures: list[UInt8] = []
    for rgb, _ in islice(read_video(path), _CLIP_FRAMES):
        height, width = rgb.shape[:2]
        wide = min(width, height * _WIDTH // _HEIGHT)
        left = (width - wide) // 2
        small = cv2.resize(rgb[:, left:left + wide], (_WIDTH, _HEIGHT),
                           interpolation=cv2.INTER_AREA)
        pictures.append(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YUV_I420), np.uint8))
    return pictures


def _camera(pictures: list[UInt8], log: Any) -> Any:
    """Return a video track that plays the pictures over and over, each with its time."""
    av, aiortc = require('av'), require('aiortc')
    track: Any = aiortc.MediaStreamTrack

    class Camera(track):
        kind = 'video'

        def __init__(self) -> None:
            super().__init__()
            self._start_s, self._count = time.monotonic(), 0

        async def recv(self) -> Any:
            # The camera does not wait for who is late: the picture is that of this moment.
            due = int((time.monotonic() - self._start_s) * _HZ) + 1
            await asyncio.sleep(max(0.0, self._start_s + due / _HZ - time.monotonic()))
            yuv = pictures[due % len(pictures)].copy()
            stamp_ms = time.time_ns() // 1_000_000
            draw_stamp(yuv[:_HEIGHT], stamp_ms)
            frame = av.VideoFrame.from_ndarray(yuv, format='yuv420p')
            frame.pts, frame.time_base = due * 3000, aiortc.mediastreams.VIDEO_TIME_BASE
            print(stamp_ms * 1_000_000, file=log)
            return frame

    return Camera()


async def _send(log: Any, clip: Path) -> None:
    aiortc = require('aiortc')
    encoder: Any = require('aiortc.codecs.h264')
    encoder.MIN_BITRATE = _LEAST_BITRATE
    pictures = _clip(clip)
    connection = None
    while True:
        await _ask(None)  # somebody wants to see
        if connection:
            await connection.close()
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        sender = connection.addTrack(_camera(pictures, log))
        codecs = [codec for codec in aiortc.RTCRtpSender.getCapabilities('video').codecs
                  if codec.mimeType in ('video/H264', 'video/rtx')]
        next(each for each in connection.getTransceivers()
             if each.sender is sender).setCodecPreferences(codecs)
        await connection.setLocalDescription(await connection.createOffer())
        answer = await _ask(connection.localDescription)
        await connection.setRemoteDescription(answer)


async def _receive(log: Any) -> None:
    aiortc = require('aiortc')
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    tasks = []

    async def show(track: Any) -> None:
        while True:
            try:
                frame = await track.recv()
            except aiortc.mediastreams.MediaStreamError:
                return  # the call is over: aiortc gives a silent peer up
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(
                frame.height, frame.planes[0].line_size)
            stamp_ms = read_stamp(luma)
            if stamp_ms is not None:
                print(stamp_ms * 1_000_000, time.time_ns(), file=log)

    connection.on('track', lambda track: tasks.append(asyncio.ensure_future(show(track))))
    await connection.setRemoteDescription(await _ask(None))
    await connection.setLocalDescription(await connection.createAnswer())
    await _ask(connection.localDescription)


async def _ask(description: Any) -> Any:
    """Print a description, if any, and return what the next line says, if anything."""
    signaling = require('aiortc.contrib.signaling')
    if description:
        print(signaling.object_to_string(description), flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if not line:
        raise KeyboardInterrupt
    return signaling.object_from_string(line) if line.strip() else None


def main() -> None:
    """Run one end until it is interrupted."""
    with open(sys.argv[2], 'a', buffering=1) as log, suppress(KeyboardInterrupt):
        asyncio.run(_send(log, Path(sys.argv[3])) if sys.argv[1] == 'send' else _receive(log))


if __name__ == '__main__':
    main()
