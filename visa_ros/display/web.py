"""
The picture on a web page: JPEG frames over a WebSocket, made only when a page waits for one.

A page acknowledges each frame when it has drawn it, and only then gets the newest one: a slow
page shows fewer frames, never old ones.  doc/display.md has the protocol.
"""
from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import secrets
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Final

import cv2
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from visa_ros.display.config import DisplayConfig
from visa_ros.display.frame_queue import FrameQueue
from visa_ros.errors import ResourceError
from visa_ros.pacing import RateLimit
from visa_ros.types import ShadedFrame

log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE: Final = Path(__file__).with_name('page.html')

# Before each JPEG: stamp_ns, sequence, presence; little-endian.
HEADER: Final = struct.Struct('<QIB3x')

_MAX_MESSAGE_BYTES = 256
_HEARTBEAT_S = 5.0
_CLOSE_TIMEOUT_S = 0.5
# Who connects has so long to ask for something; an idle connection is kept for so long.
_REQUEST_S = 5.0
_IDLE_S = 10.0
_MAX_CONNECTIONS = 64  # of all machines together, and of which asked for something or not
# Requests of one machine, and messages of one page: so many at once, so many a second.
_REQUESTS = (200, 100.0)
_MESSAGES = (240, 120.0)
_COOKIE = 'visa_token'
_HOST = re.compile(r'([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?')
_WINDOW = 64  # frames that rates and latencies are taken over
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'unsafe-inline'; style-src "
                               "'unsafe-inline'; img-src data:; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
}


class WebDisplay:
    """
    Serve the picture as a web page; the server runs in threads of its own.

    Parameters
    ----------
    config : DisplayConfig
        Address, port, JPEG quality and number of pages.

    Raises
    ------
    ResourceError
        The address or port cannot be used.

    Attributes
    ----------
    url : str
        Of the page.

    """

    def __init__(self, config: DisplayConfig) -> None:
        self._config = config
        self._frames = FrameQueue()
        self._wanted = Event()  # set while a page waits for a frame
        self._shown_s: deque[float] = deque(maxlen=_WINDOW)
        self._shown = self._encoded = 0
        # Written by the server's thread only:
        self._pages: set[web.WebSocketResponse] = set()
        self._waiting: list[asyncio.Future[_Packet]] = []
        self._draw_latencies_ms: deque[float] = deque(maxlen=_WINDOW)
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._rates: dict[str, RateLimit] = {}

        # This machine's own pages need none.
        self._token = '' if _is_loopback(config.host) else (
            config.token or secrets.token_urlsafe(16))
        self._loop = asyncio.new_event_loop()
        self._server = Thread(target=self._loop.run_forever, name='web_display', daemon=True)
        self._server.start()
        try:
            self._runner, self._listener, self.url = asyncio.run_coroutine_threadsafe(
                self._open(), self._loop).result()
        except OSError as error:
            self._stop_server()
            raise ResourceError(
                f'cannot serve the display on {config.host}:{config.port} ({error.strerror}); '
                'close the program that uses the port, or set display.port to another (0: a free '
                'one) or display.host to an address of this machine') from error
        self._encoder = Thread(target=self._encode, name='web_display_encoder', daemon=True)
        self._encoder.start()
        log.info('the display is at %s', self.url)

    def show(self, frame: ShadedFrame) -> None:
        """Take a frame; never waits.  Costs next to nothing while no page is open."""
        self._shown += 1
        self._shown_s.append(time.monotonic())
        if self._pages:
            self._frames.put(frame)

    def change(self, config: DisplayConfig) -> None:
        """Take JPEG quality and number of pages; the address stays."""
        self._config = replace(self._config, jpeg_quality=config.jpeg_quality,
                               max_clients=config.max_clients)

    def close(self) -> None:
        """Tell the pages, free the port and end the threads; may be called again."""
        if self._loop.is_closed():
            return
        self._frames.close()
        self._wanted.set()
        self._encoder.join()
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._stop_server()

    # --- encoding, in a thread

    def _encode(self) -> None:
        while not self._frames.closed:
            self._wanted.wait()
            picture = self._frames.take()
            if picture is None:
                continue
            # Whoever begins to wait from here on gets this packet too: it is new to them.
            self._wanted.clear()
            _, jpeg = cv2.imencode(
                '.jpg', picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, self._config.jpeg_quality])
            header = HEADER.pack(picture.stamp_ns, picture.sequence, picture.presence)
            self._encoded += 1
            self._loop.call_soon_threadsafe(
                self._hand_out, _Packet(picture.sequence, picture.shown_ns,
                                        header + jpeg.tobytes()))

    # --- serving, in the event loop's thread

    async def _open(self) -> tuple[web.AppRunner, asyncio.Server, str]:
        app = web.Application(middlewares=[self._guard])
        app.add_routes([web.get('/', self._page), web.get('/stream', self._stream),
                        web.get('/healthz', self._health)])
        app.on_shutdown.append(self._close_pages)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S,
                               keepalive_timeout=_IDLE_S, lingering_time=0)
        await runner.setup()
        try:
            listener = await self._loop.create_server(
                lambda: self._connection(runner), self._config.host, self._config.port)
        except OSError:
            await runner.cleanup()
            raise
        host, port = listener.sockets[0].getsockname()[:2]
        query = f'?token={self._token}' if self._token else ''
        return runner, listener, f'http://{f"[{host}]" if ":" in host else host}:{port}/{query}'

    async def _shut(self) -> None:
        self._listener.close()
        await self._runner.cleanup()

    def _connection(self, runner: web.AppRunner) -> asyncio.BaseProtocol:
        """Serve a new connection, unless there are too many; close it if it stays silent."""
        server = runner.server
        assert server is not None
        if len(server.connections) >= _MAX_CONNECTIONS:
            return _Refusal()
        handler = server()

        def close() -> None:
            del self._silent[handler]
            handler.force_close()

        self._silent[handler] = self._loop.call_later(_REQUEST_S, close)
        return handler

    def _stop_server(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._server.join()
        self._loop.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Let only those in who may see the picture, and not too often."""
        timer = self._silent.pop(request.protocol, None)
        if timer:
            timer.cancel()
        if not self._rate(request.remote or '').allows():
            refusal = web.HTTPTooManyRequests(text='too many requests; wait a second\n')
            refusal.force_close()
            raise refusal
        host = _HOST.fullmatch(request.headers.get('Host', ''))
        if host is None:
            raise web.HTTPBadRequest(text='the request names no host\n')
        if not self._token:
            # A site may rebind its name to 127.0.0.1.
            if not _is_loopback(host[1].strip('[]')):
                raise web.HTTPForbidden(text='the display is served to this machine only; set '
                                             'display.host to serve it to others\n')
            return await handler(request)
        given = request.query.get('token') or request.cookies.get(_COOKIE, '')
        if not secrets.compare_digest(given.encode(errors='replace'), self._token.encode()):
            raise web.HTTPUnauthorized(text='open the address with ?token=... as the log of the '
                                            'display shows it\n')
        response = await handler(request)
        if 'token' in request.query and not response.prepared:
            # For the stream that the page opens.
            response.set_cookie(_COOKIE, self._token, httponly=True, samesite='Strict')
        return response

    def _rate(self, address: str) -> RateLimit:
        if len(self._rates) >= _MAX_CONNECTIONS and address not in self._rates:
            self._rates = {key: rate for key, rate in self._rates.items() if not rate.rested()}
        return self._rates.setdefault(address, RateLimit(*_REQUESTS))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE, headers=_PAGE_HEADERS)

    async def _health(self, request: web.Request) -> web.Response:
        now_s, shown_s = time.monotonic(), self._shown_s
        return web.json_response({
            'frames': self._shown,
            'encoded': self._encoded,
            'clients': len(self._pages),
            'fps': round((len(shown_s) - 1) / (now_s - shown_s[0]), 1) if shown_s else 0.0,
            'age_s': round(now_s - shown_s[-1], 3) if shown_s else None,
            'draw_latency_ms': (round(median(self._draw_latencies_ms), 1)
                                if self._draw_latencies_ms else None),
        })

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        origin = request.headers.get('Origin')
        # Browsers always send it; other programs need not.
        if origin is not None and origin.partition('://')[2] != request.host:
            raise web.HTTPForbidden(text="only this server's own page may open the stream\n")
        if len(self._pages) >= self._config.max_clients:
            raise web.HTTPServiceUnavailable(
                text=f'{len(self._pages)} pages are open already; close one, or raise '
                     'display.max_clients\n')
        # Pings and pongs come here too, and count.
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, timeout=_CLOSE_TIMEOUT_S,
                                       compress=False, max_msg_size=_MAX_MESSAGE_BYTES,
                                       autoping=False)
        if not self._pages:
            self._frames.clear()
        self._pages.add(socket)
        page = _Page(socket)
        feeding = None
        try:
            await socket.prepare(request)
            feeding = asyncio.create_task(self._feed(page))
            rate = RateLimit(*_MESSAGES)
            async for message in socket:
                if not rate.allows():
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION,
                                       message=b'too many messages')
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is not WSMsgType.PONG and not self._acknowledge(page, message):
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION,
                                       message=b'not an acknowledgement of the last frame')
        finally:
            self._pages.discard(socket)
            if feeding:
                feeding.cancel()
        return socket

    async def _feed(self, page: _Page) -> None:
        """Send the page a frame, wait until it is drawn, and so on."""
        with suppress(ConnectionError):
            while True:
                packet = self._loop.create_future()
                self._waiting.append(packet)
                self._wanted.set()
                page.in_flight = await packet
                await page.socket.send_bytes(page.in_flight.data)
                await page.drawn.wait()
                page.drawn.clear()

    def _hand_out(self, packet: _Packet) -> None:
        waiting, self._waiting = self._waiting, []
        self._wanted.clear()
        for future in waiting:
            if not future.done():  # its page may have gone
                future.set_result(packet)

    def _acknowledge(self, page: _Page, message: WSMessage) -> bool:
        """Take note that a page has drawn its frame; False if it says anything else."""
        try:
            said = json.loads(message.data)
            sequence, drawn_ms = said['sequence'], float(said['drawn_ms'])
        except (TypeError, ValueError, KeyError):
            return False
        if page.in_flight is None or sequence != page.in_flight.sequence:
            return False
        if math.isfinite(drawn_ms):
            self._draw_latencies_ms.append(drawn_ms - page.in_flight.shown_ns / 1e6)
        page.in_flight = None
        page.drawn.set()
        return True

    async def _close_pages(self, app: web.Application) -> None:
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY)
                               for socket in self._pages))


class _Refusal(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


@dataclass(frozen=True)
class _Packet:
    """An encoded frame."""

    sequence: int
    shown_ns: int
    data: bytes


@dataclass(eq=False)
class _Page:
    """An open page, and the frame that it has not drawn yet."""

    socket: web.WebSocketResponse
    in_flight: _Packet | None = None
    drawn: asyncio.Event = field(default_factory=asyncio.Event)


def _is_loopback(host: str) -> bool:
    try:
        return host == 'localhost' or ip_address(host).is_loopback
    except ValueError:
        return False
