"""Keep the chatter of native libraries off the terminal while they load."""
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# absl and glog (W0000 00:00:17..., I0000 ...) and TensorFlow Lite.
_CHATTER = re.compile(
    rb'[IW]\d{4} |INFO: Created TensorFlow|WARNING: All log messages before absl')


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """
    Hold back what is written to the process's stderr, and let all but known chatter through.

    MediaPipe's library logs through a copy of absl that reads no setting and exports no switch.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(stderr, line)
            os.close(stderr)
