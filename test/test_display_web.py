"""The web display: a real server, real WebSocket clients, and the page in a real browser."""
import base64
import itertools
import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import websocket

from visa_ros import samples
from visa_ros.display.config import DisplayConfig
from visa_ros.display.mark import INTERRUPTED, TEXTS
from visa_ros.display.web import HEADER, WebDisplay
from visa_ros.errors import InputError, ResourceError
from visa_ros.types import Presence, ShadedFrame

TIMEOUT_S = 30
SIZE = 512
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'google-chrome'))), None)


@pytest.fixture(scope='module')
def portrait():
    return samples.portrait()


@pytest.fixture
def display():
    with closing(WebDisplay(DisplayConfig(port=0))) as web:
        yield web


def wait_until(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, 'did not come to pass'
        time.sleep(0.01)


def port_of(display):
    return urlsplit(display.url).port


def get(display, path, **headers):
    with closing(HTTPConnection('127.0.0.1', port_of(display), timeout=TIMEOUT_S)) as connection:
        connection.request('GET', path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def health(display):
    return json.loads(get(display, '/healthz')[2])


def open_page(display, **options):
    """Open the stream as a page does, and wait until the server is ready to send."""
    before = len(display._waiting)
    page = websocket.create_connection(display.url.replace('http', 'ws') + 'stream',
                                       timeout=TIMEOUT_S, **options)
    wait_until(lambda: len(display._waiting) > before)
    return page


def receive(page):
    packet = page.recv()
    stamp_ns, sequence, presence = HEADER.unpack(packet[:HEADER.size])
    jpeg = np.frombuffer(packet[HEADER.size:], np.uint8)
    return stamp_ns, sequence, presence, cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]


def acknowledge(page, sequence):
    page.send(json.dumps({'sequence': sequence, 'drawn_ms': time.time() * 1e3}))


def test_a_frame_arrives_with_its_stamp_and_presence(display, portrait):
    page = open_page(display)
    display.show(ShadedFrame(portrait, 1_700_000_000_123_456_789, Presence.HOLDING))
    stamp_ns, sequence, presence, rgb = receive(page)
    assert (stamp_ns, sequence, presence) == (1_700_000_000_123_456_789, 1, Presence.HOLDING)
    assert np.abs(rgb.astype(int) - portrait).mean() < 3, 'JPEG of the portrait'


def test_the_render_loop_may_reuse_its_buffer_at_once(display, portrait):
    page = open_page(display)
    display.show(ShadedFrame(np.zeros_like(portrait), 1))
    receive(page)
    buffer = portrait.copy()
    display.show(ShadedFrame(buffer, 2))  # waits until the first is acknowledged
    buffer[:] = 0
    acknowledge(page, 1)
    assert np.abs(receive(page)[3].astype(int) - portrait).mean() < 3


def test_a_page_gets_the_latest_frame_and_no_backlog(display, portrait):
    page = open_page(display)
    display.show(ShadedFrame(portrait, 1))
    assert receive(page)[:2] == (1, 1)
    for stamp_ns in range(2, 52):
        display.show(ShadedFrame(portrait, stamp_ns))
    acknowledge(page, 1)
    assert receive(page)[:2] == (51, 51)
    assert health(display)['encoded'] == 2


def test_a_slow_page_does_not_hold_up_a_quick_one(display, portrait):
    slow, quick = open_page(display), open_page(display)
    display.show(ShadedFrame(portrait, 1))
    receive(slow)
    for stamp_ns in range(2, 12):
        assert receive(quick)[0] == stamp_ns - 1
        acknowledge(quick, stamp_ns - 1)
        wait_until(lambda: display._waiting)
        display.show(ShadedFrame(portrait, stamp_ns))
    assert receive(quick)[0] == 11
    acknowledge(slow, 1)
    wait_until(lambda: display._waiting)
    display.show(ShadedFrame(portrait, 12))
    assert receive(slow)[:2] == (12, 12), 'none of those between'


def test_one_encoding_serves_every_page(display, portrait):
    pages = [open_page(display) for _ in range(3)]
    display.show(ShadedFrame(portrait, 1))
    packets = [page.recv() for page in pages]
    assert packets[0] == packets[1] == packets[2]
    assert health(display)['encoded'] == 1


def test_without_a_page_nothing_is_copied_or_encoded(display, portrait):
    for stamp_ns in range(5):
        display.show(ShadedFrame(portrait, stamp_ns))
    state = health(display)
    assert (state['frames'], state['encoded'], state['clients']) == (5, 0, 0)
    page = open_page(display)
    display.show(ShadedFrame(portrait, 99))
    assert receive(page)[:2] == (99, 1), 'none of the frames before was kept'
    page.close()
    wait_until(lambda: health(display)['clients'] == 0)


def test_a_page_that_comes_back_gets_no_old_frame(display, portrait):
    page = open_page(display)
    display.show(ShadedFrame(portrait, 1))
    receive(page)
    display.show(ShadedFrame(portrait, 2))  # waits for the acknowledgement that never comes
    page.close()
    wait_until(lambda: health(display)['clients'] == 0)
    page = open_page(display)
    display.show(ShadedFrame(portrait, 3))
    assert receive(page)[0] == 3


def test_health_tells_rate_age_and_latency(display, portrait):
    state = health(display)
    assert state['age_s'] is None
    assert state['draw_latency_ms'] is None
    page = open_page(display)
    for sequence in range(1, 6):
        display.show(ShadedFrame(portrait, sequence))
        receive(page)
        acknowledge(page, sequence)
        wait_until(lambda: display._waiting)
    state = health(display)
    assert state['frames'] == state['encoded'] == 5
    assert state['clients'] == 1
    assert state['fps'] > 0
    assert 0 <= state['age_s'] < TIMEOUT_S
    assert 0 <= state['draw_latency_ms'] < 1e3 * TIMEOUT_S


@pytest.mark.parametrize('message', [
    'nonsense', '{}', '[]', '{"sequence": 7, "drawn_ms": 0}', '{"sequence": 1}',
    '{"sequence": 1, "drawn_ms": "now"}', b'\xff\x00', 'x' * 300])
def test_a_page_that_says_nonsense_is_closed_and_the_others_live_on(display, portrait, message):
    good, bad = open_page(display), open_page(display)
    display.show(ShadedFrame(portrait, 1))
    receive(bad)
    receive(good)
    (bad.send_binary if isinstance(message, bytes) else bad.send)(message)
    opcode, data = bad.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2]) in (1008, 1009)  # policy violation, message too big
    acknowledge(good, 1)
    wait_until(lambda: display._waiting)
    display.show(ShadedFrame(portrait, 2))
    assert receive(good)[0] == 2


@pytest.mark.parametrize('origin', [
    'http://elsewhere.example', 'http://127.0.0.1:1', 'null', 'http://localhost.elsewhere.example'])
def test_another_sites_page_may_not_open_the_stream(display, origin):
    with pytest.raises(websocket.WebSocketBadStatusException, match='403'):
        open_page(display, origin=origin)
    assert health(display)['clients'] == 0


def test_its_own_page_may_open_the_stream(display):
    page = open_page(display, origin=display.url.rstrip('/'))  # held: it closes when forgotten
    wait_until(lambda: health(display)['clients'] == 1)
    page.close()


def test_on_loopback_a_foreign_host_name_is_refused(display):
    """A site that makes its own name point to 127.0.0.1 would be of the same origin."""
    for path in ('/', '/stream', '/healthz'):
        assert get(display, path, Host='elsewhere.example')[0] == 403
    assert get(display, '/', Host=f'localhost:{port_of(display)}')[0] == 200


@pytest.mark.parametrize('host', [
    b'[::1', b'a b', b'', b'127.0.0.1:99999999', b'\xff\xfe', b'elsewhere.example#@127.0.0.1',
    b'x' * 5000, b'localhost:abc'])
def test_a_host_that_is_none_is_refused(display, host, caplog):
    with socket.create_connection(('127.0.0.1', port_of(display)), TIMEOUT_S) as client:
        client.sendall(b'GET / HTTP/1.1\r\nHost: ' + host + b'\r\n\r\n')
        assert client.recv(4096).split()[1] in (b'400', b'403')
    assert 'Traceback' not in caplog.text


def test_too_many_pages_are_refused(portrait):
    with closing(WebDisplay(DisplayConfig(port=0, max_clients=1))) as display:
        page = open_page(display)
        with pytest.raises(websocket.WebSocketBadStatusException, match='503'):
            open_page(display)
        page.close()
        wait_until(lambda: health(display)['clients'] == 0)
        open_page(display)


def test_the_page_needs_nothing_from_elsewhere(display):
    status, headers, body = get(display, '/')
    assert status == 200
    assert headers['Content-Type'].startswith('text/html')
    assert "default-src 'none'" in headers['Content-Security-Policy']
    assert b'://' not in body


def test_a_port_in_use_is_named(display):
    with pytest.raises(ResourceError, match=r'display\.port') as caught:
        WebDisplay(DisplayConfig(port=port_of(display)))
    assert str(port_of(display)) in str(caught.value)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ResourceError, match=r'display\.host'):
        WebDisplay(DisplayConfig(host='192.0.2.1', port=0))


def test_close_tells_the_pages_frees_the_port_and_ends_the_threads(portrait):
    display = WebDisplay(DisplayConfig(port=0))
    page = open_page(display)
    display.show(ShadedFrame(portrait, 1))
    receive(page)
    display.show(ShadedFrame(portrait, 2))
    display.close()
    display.close()
    display.show(ShadedFrame(portrait, 3))
    opcode, data = page.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2]) == 1001  # going away
    assert not [thread for thread in threading.enumerate() if 'web_display' in thread.name]
    socket.create_server(('127.0.0.1', port_of(display))).close()


# --- who may see it from elsewhere

TOKEN = 'a-token_of-24-characters'


@pytest.fixture
def exposed():
    with closing(WebDisplay(DisplayConfig(host='0.0.0.0', port=0, token=TOKEN))) as web:
        yield web


def test_beyond_loopback_nothing_is_told_without_the_token(exposed):
    for path in ('/', '/stream', '/healthz', '/nothing'):
        for query in ('', '?token=', f'?token={TOKEN[:-1]}', f'?token={TOKEN}x', '?token=%ff'):
            status, headers, _ = get(exposed, path + query)
            assert status == 401
            assert 'Set-Cookie' not in headers
        assert get(exposed, path, Cookie='visa_token=wrong')[0] == 401
    with pytest.raises(websocket.WebSocketBadStatusException, match='401'):
        open_page(exposed)


def test_the_token_opens_the_page_and_its_stream(exposed, portrait):
    assert exposed.url.endswith(f'/?token={TOKEN}')
    status, headers, _ = get(exposed, f'/?token={TOKEN}')
    assert status == 200
    cookie = headers['Set-Cookie']
    assert 'HttpOnly' in cookie
    assert 'SameSite=Strict' in cookie
    address = f'ws://127.0.0.1:{port_of(exposed)}/stream'
    page = websocket.create_connection(address, timeout=TIMEOUT_S, cookie=cookie.split(';')[0])
    wait_until(lambda: exposed._waiting)
    exposed.show(ShadedFrame(portrait, 7))
    assert receive(page)[0] == 7
    for origin in ('http://elsewhere.example', f'http://127.0.0.1:{port_of(exposed) + 1}'):
        with pytest.raises(websocket.WebSocketBadStatusException, match='403'):
            websocket.create_connection(address, cookie=cookie.split(';')[0], origin=origin)


def test_a_token_is_made_where_none_is_set():
    tokens = set()
    for _ in range(2):
        with closing(WebDisplay(DisplayConfig(host='0.0.0.0', port=0))) as web:
            tokens.add(web.url.partition('?token=')[2])
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 22
    for bad in ('short', 'x' * 15, 'a token with some spaces'):
        with pytest.raises(InputError, match='token'):
            DisplayConfig(token=bad)


# --- hostile clients

def frame_of(opcode, claimed, payload=b'', final=True, masked=True):
    """Return a WebSocket frame that claims a length of 8 bytes."""
    head = bytes([(0x80 if final else 0) | opcode, (0x80 if masked else 0) | 127])
    return head + claimed.to_bytes(8) + (bytes(4) if masked else b'') + payload


@pytest.mark.parametrize('data', [
    frame_of(1, 2**62), frame_of(2, 2**31), frame_of(1, 300, b'x' * 300),
    frame_of(1, 200, b'x' * 200, final=False) * 3, frame_of(1, 5, b'{"a":', masked=False),
    frame_of(0, 3, b'abc'), frame_of(11, 1, b'x'), frame_of(9, 126, b'x' * 126),
    frame_of(1, 2, b'\xff\xfe'), b'\xff' * 64],
    ids=['huge', 'big', 'long', 'many parts', 'no mask', 'no begin', 'unknown', 'long ping',
         'no utf-8', 'reserved bits'])
def test_a_broken_or_endless_message_ends_its_page_only(display, portrait, data):
    good, bad = open_page(display), open_page(display)
    bad.sock.sendall(data)
    wait_until(lambda: health(display)['clients'] == 1)
    display.show(ShadedFrame(portrait, 1))
    assert receive(good)[0] == 1


def test_a_flood_of_pings_ends_its_page_only(display, portrait):
    good, bad = open_page(display), open_page(display)
    bad.sock.sendall(b'\x89\x80\0\0\0\0' * 20)
    display.show(ShadedFrame(portrait, 1))
    receive(good)
    assert health(display)['clients'] == 2, 'some pings are none'
    with suppress(OSError):
        bad.sock.sendall(b'\x89\x80\0\0\0\0' * 100_000)
    wait_until(lambda: health(display)['clients'] == 1)
    acknowledge(good, 1)
    wait_until(lambda: display._waiting)
    display.show(ShadedFrame(portrait, 2))
    assert receive(good)[0] == 2


def test_a_page_that_reads_nothing_is_left(display):
    """Pictures of a megabyte fill every buffer; then its heart has stopped."""
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
    deaf = open_page(display, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    display.show(ShadedFrame(noise, 1))
    wait_until(lambda: health(display)['encoded'] == 1)
    wait_until(lambda: health(display)['clients'] == 0)
    assert deaf.connected, 'it has not left by itself'


@pytest.mark.parametrize('request_', [
    b'nonsense\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'\x16\x03\x01\x02\x00' + bytes(512),
    b'GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n',
    b'GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
    b'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n',
    b'POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: localhost\r\nX: ' + b'y' * 100_000 + b'\r\n\r\n',
    b'GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n',
    b'CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    ids=['nonsense', 'version', 'TLS', 'no upgrade', 'short key', 'POST', 'long header', 'path',
         'proxy'])
def test_a_bad_handshake_is_refused(display, request_):
    with socket.create_connection(('127.0.0.1', port_of(display)), TIMEOUT_S) as client:
        with suppress(OSError):
            client.sendall(request_)
        with suppress(ConnectionResetError):
            answer = client.recv(4096)
            assert not answer or answer.split()[1] in (b'400', b'403', b'404', b'405')
    assert health(display)['clients'] == 0


def test_connections_that_ask_for_nothing_are_few_and_closed(display):
    page = open_page(display)
    address = ('127.0.0.1', port_of(display))
    silent = [socket.create_connection(address, TIMEOUT_S) for _ in range(100)]
    for client in silent[::3]:
        with suppress(OSError):
            client.sendall(b'GET / HTTP/1.1\r\nHost: loc')  # and never the end
    for client in silent:
        with closing(client), suppress(ConnectionResetError):
            assert client.recv(1) == b'', 'closed by the server'
    assert health(display)['clients'] == 1
    page.ping('still there?')
    # The server asks the same, now and then.
    answers = itertools.takewhile(lambda answer: answer != (
        websocket.ABNF.OPCODE_PONG, b'still there?'), iter(
            lambda: page.recv_data(control_frame=True), None))
    assert {opcode for opcode, _ in answers} <= {websocket.ABNF.OPCODE_PING}


def test_who_asks_too_often_must_wait(display):
    with closing(HTTPConnection('127.0.0.1', port_of(display), timeout=TIMEOUT_S)) as connection:
        def ask():
            connection.request('GET', '/healthz')
            answer = connection.getresponse()
            answer.read()
            return answer.status

        statuses = [ask() for _ in range(1000)]
    assert statuses[:100] == [200] * 100
    assert 429 in statuses
    wait_until(lambda: get(display, '/healthz')[0] == 200)


def test_no_other_site_may_frame_the_page(display):
    assert "frame-ancestors 'none'" in get(display, '/')[1]['Content-Security-Policy']


# --- the page in a browser


class Browser:
    """A page in headless Chromium, driven through the DevTools protocol."""

    def __init__(self, profile):
        self._process = subprocess.Popen(
            [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
             '--no-first-run', '--disable-background-networking', '--disable-component-update',
             '--disable-sync', '--remote-debugging-port=0', f'--user-data-dir={profile}',
             'about:blank'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        address = profile / 'DevToolsActivePort'
        wait_until(lambda: address.exists() and '\n' in address.read_text())
        port = int(address.read_text().splitlines()[0])
        with closing(HTTPConnection('127.0.0.1', port, timeout=TIMEOUT_S)) as connection:
            connection.request('GET', '/json')
            target, = (target for target in json.load(connection.getresponse())
                       if target['type'] == 'page')
        self._socket = websocket.create_connection(
            target['webSocketDebuggerUrl'], suppress_origin=True, timeout=TIMEOUT_S)
        self._numbers = itertools.count(1)
        self._call('Emulation.setDeviceMetricsOverride', width=SIZE, height=SIZE,
                   deviceScaleFactor=1, mobile=False)
        self._call('Page.enable')

    def close(self):
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def _receive(self, is_wanted):
        while True:
            message = json.loads(self._socket.recv())
            if is_wanted(message):
                return message

    def _call(self, method, **params):
        number = next(self._numbers)
        self._socket.send(json.dumps({'id': number, 'method': method, 'params': params}))
        answer = self._receive(lambda message: message.get('id') == number)
        assert 'error' not in answer, answer
        return answer['result']

    def open(self, url):
        self._call('Page.navigate', url=url)
        self._receive(lambda message: message.get('method') == 'Page.loadEventFired')

    def evaluate(self, expression):
        answer = self._call('Runtime.evaluate', expression=expression, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def wait_for(self, condition):
        self.evaluate(f'''new Promise((resolve, reject) => {{
            const end = performance.now() + {TIMEOUT_S * 900};
            const look = () => ({condition}) ? resolve()
                : performance.now() > end ? reject(document.body.outerHTML) : setTimeout(look, 20);
            look();
        }})''')

    def wait_for_state(self, state):
        """Wait until the page is in this state and its mark has faded in or out."""
        opacity = 0 if state == 'live' else 1
        self.wait_for(f"document.body.dataset.state === '{state}' && "
                      f"getComputedStyle(element('mark')).opacity == {opacity} && "
                      f"getComputedStyle(element('veil')).opacity == {opacity}")

    def mark(self):
        return self.evaluate("element('mark').innerText")

    def screenshot(self):
        """Return what the screen shows, (512, 512, 3) RGB."""
        png = base64.b64decode(self._call('Page.captureScreenshot')['data'])
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip('Chromium is not installed (apt-get install chromium)')
    with closing(Browser(tmp_path_factory.mktemp('chromium'))) as page:
        yield page


@contextmanager
def showing(display, rgb, presence=Presence.LIVE):
    """Show the same picture at 25 frames a second meanwhile."""
    done = threading.Event()

    def show():
        while not done.wait(0.04):
            display.show(ShadedFrame(rgb, time.time_ns(), presence))

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_the_page_shows_the_picture_and_nothing_else(display, browser, portrait):
    browser.open(display.url)
    assert browser.mark() == 'Waiting for the picture'
    with showing(display, portrait):
        browser.wait_for_state('live')
        difference = np.abs(browser.screenshot().astype(int) - portrait)
    assert difference.mean() < 3, 'JPEG of the portrait, pixel for pixel'
    assert np.quantile(difference, 0.99) < 20


def test_the_picture_keeps_its_aspect(display, browser, portrait):
    wide = np.ascontiguousarray(portrait[128:384])  # 512x256
    browser.open(display.url)
    with showing(display, wide):
        browser.wait_for_state('live')
        screen = browser.screenshot()
    assert np.abs(screen[128:384].astype(int) - wide).mean() < 3
    assert screen[:120].max() < 100, 'a dim surround, no picture'
    assert screen[392:].max() < 100


@pytest.mark.parametrize(('presence', 'state'), [
    (Presence.OPERATOR_LOST, 'operator-lost'), (Presence.LINK_LOST, 'link-lost')])
def test_the_page_marks_a_lost_operator_and_a_lost_link(display, browser, portrait, presence,
                                                        state):
    browser.open(display.url)
    with showing(display, portrait):
        browser.wait_for_state('live')
        live = browser.screenshot().astype(int)
    with showing(display, portrait, presence):
        browser.wait_for_state(state)
        assert browser.mark() == TEXTS[presence]
        marked = browser.screenshot().astype(int)
    assert marked.mean() < 0.8 * live.mean(), 'veiled'
    label = marked[440:490, 130:380]
    assert (label.min(axis=2) > 230).mean() > 0.02, 'white letters'
    with showing(display, portrait):
        browser.wait_for_state('live')
        assert np.abs(browser.screenshot().astype(int) - live).mean() < 1, 'the mark has gone'


def test_the_page_holds_without_a_mark(display, browser, portrait):
    browser.open(display.url)
    with showing(display, portrait, Presence.HOLDING):
        browser.wait_for_state('live')


def test_the_page_says_when_frames_stop(display, browser, portrait):
    browser.open(display.url)
    with showing(display, portrait):
        browser.wait_for_state('live')
    browser.wait_for_state('interrupted')
    assert browser.mark() == INTERRUPTED
    with showing(display, portrait):
        browser.wait_for_state('live')


def test_the_page_comes_back_after_the_server(browser, portrait):
    display = WebDisplay(DisplayConfig(port=0))
    browser.open(display.url)
    with showing(display, portrait):
        browser.wait_for_state('live')
        display.close()
    browser.wait_for_state('disconnected')
    with (closing(WebDisplay(DisplayConfig(port=port_of(display)))) as again,
          showing(again, portrait)):
        browser.wait_for_state('live')


def test_a_page_leaves_a_connection_that_only_seems_to_be_one(display, browser, portrait):
    """As after a network cable was pulled: the socket stays open, and nothing comes."""
    browser.open(display.url)
    with showing(display, portrait):
        browser.wait_for_state('live')
    browser.evaluate('window.first = socket')
    browser.wait_for('socket !== first && socket.readyState === WebSocket.OPEN')
    with showing(display, portrait):
        browser.wait_for_state('live')
    wait_until(lambda: health(display)['clients'] == 1)


def test_a_preview_is_mirrored_and_its_words_are_not(display, browser, portrait):
    browser.open(display.url + '?mirror=1')
    with showing(display, portrait):
        browser.wait_for_state('live')
        screen = browser.screenshot()
    assert np.abs(screen.astype(int) - portrait[:, ::-1]).mean() < 3
    assert browser.evaluate("getComputedStyle(element('mark')).transform").startswith(
        'matrix(1, 0, 0, 1,')  # moved, not mirrored
    assert np.abs(screen.astype(int) - portrait).mean() > 20


def test_figures_are_shown_when_asked_for(display, browser, portrait):
    browser.open(display.url)
    assert browser.evaluate("element('stats').checkVisibility()") is False
    browser.open(display.url + '?stats=1')
    with showing(display, portrait):
        browser.wait_for(r"/^[1-9]\d* fps, \d+ ms$/.test(element('stats').innerText)")
    assert 0 <= health(display)['draw_latency_ms'] < 1e3 * TIMEOUT_S


def test_the_token_in_the_address_is_enough_for_a_browser(exposed, browser, portrait):
    browser.open(exposed.url.replace('0.0.0.0', '127.0.0.1'))
    with showing(exposed, portrait):
        browser.wait_for_state('live')
