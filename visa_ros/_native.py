"""Load the compiled kernels, in the build that suits this processor."""
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
    name : {'splat_cpu', 'skinning', 'zbuffer'}
        A folder of ``src/``.

    Raises
    ------
    MissingDependencyError
        The package was not built.

    """
    try:
        base = import_module(f'visa_ros._{name}_base')
        return import_module(f'visa_ros._{name}_v3') if base.cpu_has_v3() else base
    except ImportError as error:
        raise MissingDependencyError(
            f'the compiled module {name} cannot be loaded ({error}); build the package with '
            "'make build' (or colcon build) and source install/local_setup.bash") from error
