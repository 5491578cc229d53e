"""Load the compiled kernels, in the build that suits this processor."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType

from visa_ros.errors import MissingDependencyError


@cache
def load(name: str) -> ModuleType:
    """
    Import a compiled kernel module.

    Each is built twice on x86-64: for any processor (``_NAME_base``) and for AVX2 and FMA
    (``_NAME_v3``, the x86-64-v3 level, several times faster).

    Parameters
    ----------
    name : {'splat_cpu', 'skinning'}
        A folder of ``src/``.

    Raises
    ------
    MissingDependencyError
        The package was not built.

    """
    try:
        with _sleeping_threads():
            base = import_module(f'visa_ros._{name}_base')
            return import_module(f'visa_ros._{name}_v3') if base.cpu_has_v3() else base
    except ImportError as error:
        raise MissingDependencyError(
            f'the compiled module {name} cannot be loaded ({error}); build the package with '
            "'make build' (or colcon build) and source install/local_setup.bash") from error


@contextmanager
def _sleeping_threads() -> Iterator[None]:
    """
    Let OpenMP threads of the kernels sleep between calls, unless the user says otherwise.

    GNU's runtime reads the variable when it is loaded.  Its default is to spin for some
    milliseconds after every call, on cores that other stages need: a frame at 30 Hz then costs
    twice the processor time (21 ms instead of 11 for 50k Gaussians at 512 px, 2 cores).
    torch brings its own copy of the runtime and is not affected.
    """
    unset = 'OMP_WAIT_POLICY' not in os.environ
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    try:
        yield
    finally:
        if unset:
            del os.environ['OMP_WAIT_POLICY']
