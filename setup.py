"""
Make visa_ros a wheel: ``pip install .`` installs all that CMakeLists.txt installs.

colcon does not read this file (package.xml says ament_cmake).  The environment must hold the ROS
packages of requirements-ros.txt, or a ROS 2 installation must be sourced.
"""
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build):
    """Run CMake into a staging prefix and hand its files to the wheel."""

    def run(self) -> None:
        """Configure, build, install; then sort the files into modules and data files."""
        work = Path(self.build_temp).resolve()
        stage = work / 'stage'
        shutil.rmtree(stage, ignore_errors=True)
        prefixes = [sys.prefix, *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(':'))]
        environment = dict(os.environ, AMENT_PREFIX_PATH=':'.join(dict.fromkeys(prefixes)))
        # Through PYTHONPATH pip's build isolation would hide the generators of the messages.
        environment.pop('PYTHONPATH', None)
        for command in (
            ['cmake', '-S', ROOT, '-B', work / 'cmake',
             *(['-GNinja'] if shutil.which('ninja') else []),
             '-DCMAKE_BUILD_TYPE=Release', '-DBUILD_TESTING=OFF',
             f'-DCMAKE_INSTALL_PREFIX={stage}', f'-DCMAKE_PREFIX_PATH={";".join(prefixes)}',
             f'-DPython3_EXECUTABLE={sys.executable}'],
            ['cmake', '--build', work / 'cmake', '--parallel'],
            ['cmake', '--install', work / 'cmake'],
        ):
            subprocess.run(command, check=True, env=environment)
        self.distribution.data_files = self._collect(stage)
        super().run()

    def _collect(self, stage: Path) -> list[tuple[str, list[str]]]:
        """Copy the modules to where setuptools gathers them; return the other files by folder."""
        data: dict[str, list[str]] = {}
        for path in sorted(stage.rglob('*')):
            relative = path.relative_to(stage)
            if not path.is_file() or {'__pycache__', 'egg-info'} & {
                    part.rpartition('.')[2] for part in relative.parts}:
                continue
            if relative.parts[0] == 'bin':  # pip makes the command itself
                continue
            module_root = {'site-packages', 'dist-packages'} & set(relative.parts)
            if module_root:
                start = relative.parts.index(module_root.pop()) + 1
                target = Path(self.build_lib, *relative.parts[start:])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            else:
                data.setdefault(str(relative.parent), []).append(str(path))
        return sorted(data.items())


class BinaryDistribution(Distribution):
    """Tell the wheel's tag that it holds compiled modules."""

    def has_ext_modules(self) -> bool:
        """Return True."""
        return True


def requirements() -> list[str]:
    """Return the pinned packages of requirements.txt."""
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


manifest = ET.parse(ROOT / 'package.xml')

setup(
    name='visa_ros',
    version=manifest.findtext('version'),
    description=' '.join(manifest.findtext('description', '').split()),
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    packages=[],
    # Replaced by the build; not empty, so that setuptools runs install_data.
    data_files=[('share/visa_ros', ['package.xml'])],
    python_requires='>=3.11',
    install_requires=requirements(),
    entry_points={'console_scripts': ['visa = visa_ros.cli:main']},
    cmdclass={'build': CMakeBuild},
    distclass=BinaryDistribution,
)
