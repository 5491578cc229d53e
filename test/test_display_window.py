"""The window on a real X server without a screen (Xvfb)."""
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from visa_ros import samples
from visa_ros.display.mark import INTERRUPTED, TEXTS, draw_mark
from visa_ros.display.window import Window, _letterboxed
from visa_ros.errors import ResourceError
from visa_ros.types import Presence

ATTEMPTS = 3
TIMEOUT_S = 30
WIDTH, HEIGHT = 640, 512

# Shows frames with the presence that it was last told, or none, and closes at the end.  A process
# of its own: Qt aborts the one that it is in when its X server goes.
SHOW = '''
import sys
from threading import Event, Thread
from visa_ros import samples
from visa_ros.display.config import DisplayConfig
from visa_ros.display.sinks import open_sinks
from visa_ros.types import Presence, ShadedFrame

window, = open_sinks(DisplayConfig(web=False, window=True, mirror='mirror' in sys.argv))
told, done = ['NOTHING'], Event()

def show():
    while not done.wait(0.04):
        if told[-1] != 'NOTHING':
            window.show(ShadedFrame(samples.portrait(), 1, Presence[told[-1]]))

thread = Thread(target=show)
thread.start()
for line in sys.stdin:
    told.append(line.strip())
done.set()
thread.join()
window.close()
window.close()
'''


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """Start an X server; return a function that reads what it shows, (512, 640, 3) BGR."""
    if shutil.which('Xvfb') is None:
        pytest.skip('Xvfb is not installed (apt-get install xvfb)')
    read, write = os.pipe()
    server = subprocess.Popen(
        ['Xvfb', '-displayfd', str(write), '-screen', '0', f'{WIDTH}x{HEIGHT}x24',
         '-nolisten', 'tcp', '-fbdir', str(tmp_path)],
        pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as number:
        monkeypatch.setenv('DISPLAY', ':' + number.readline().strip())

    def read_screen():
        data = (tmp_path / 'Xvfb_screen0').read_bytes()  # XWD: header, then BGRX
        return np.frombuffer(data[-WIDTH * HEIGHT * 4:], np.uint8).reshape(
            HEIGHT, WIDTH, 4)[..., :3]

    yield read_screen
    server.terminate()
    server.wait()


@contextmanager
def showing(condition, *arguments):
    """Yield a process that shows LIVE frames, and does."""
    for attempt in range(ATTEMPTS):
        process = subprocess.Popen(
            [sys.executable, '-c', SHOW, *arguments], stdin=subprocess.PIPE, text=True, bufsize=1,
            cwd=Path(__file__).parents[1])
        process.stdin.write('LIVE\n')
        try:
            wait_until(condition)
        except AssertionError:
            # Without a window manager Qt's window is not mapped now and then on a busy machine.
            process.kill()
            process.wait()
            if attempt == ATTEMPTS - 1:
                raise
        else:
            break
    with process:
        yield process


def wait_until(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, 'did not come to pass'
        time.sleep(0.02)


def test_the_window_shows_the_picture_and_its_marks(screen):
    picture = samples.portrait()[..., ::-1]

    def shows(expected):
        corner = screen()[:512, :512].astype(int)
        return np.abs(corner - expected).mean() < 3

    def marked(text):
        bgr = picture.copy()
        draw_mark(bgr, text)
        return bgr

    with showing(lambda: shows(picture)) as process:
        process.stdin.write('OPERATOR_LOST\n')
        wait_until(lambda: shows(marked(TEXTS[Presence.OPERATOR_LOST])))
        process.stdin.write('HOLDING\n')
        wait_until(lambda: shows(picture))
        process.stdin.write('NOTHING\n')
        wait_until(lambda: shows(marked(INTERRUPTED)))
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    wait_until(lambda: not shows(marked(INTERRUPTED)))


def test_a_mirrored_window_has_readable_words(screen):
    mirrored = samples.portrait()[:, ::-1, ::-1].copy()

    def shows(expected):
        return np.abs(screen()[:512, :512].astype(int) - expected).mean() < 3

    marked = mirrored.copy()
    draw_mark(marked, TEXTS[Presence.LINK_LOST])
    with showing(lambda: shows(mirrored), 'mirror') as process:
        process.stdin.write('LINK_LOST\n')
        wait_until(lambda: shows(marked))
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(('width', 'height', 'shape'), [
    (800, 400, (300, 600)), (400, 800, (800, 400)), (1920, 1440, (300, 400))])
def test_bars_give_a_picture_the_windows_proportions(width, height, shape):
    picture = np.full((300, 400, 3), 200, np.uint8)
    boxed = _letterboxed(picture, width, height)
    assert boxed.shape == (*shape, 3)
    top, left = (shape[0] - 300) // 2, (shape[1] - 400) // 2
    assert (boxed[top:top + 300, left:left + 400] == 200).all()
    assert (boxed == 200).sum() == picture.size, 'the rest is dark'


@pytest.mark.parametrize('display', ['', ':9753'])
def test_without_a_desktop_the_error_says_so_and_the_process_lives(display, monkeypatch):
    monkeypatch.setenv('DISPLAY', display)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    with pytest.raises(ResourceError, match=r'could not connect to display.*display\.web'):
        Window()
