"""The package's promises: versions, executables, light imports, pinned and portable files."""
import ast
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from ament_index_python import get_package_prefix
from catkin_pkg.package import parse_package

import visa_ros
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.source import SourceConfig
from visa_ros.display.config import DisplayConfig
from visa_ros.evaluation.network_link import AVATAR_KBIT

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / 'visa_ros'
NODES = sorted(path.stem for path in (PYTHON / 'nodes').glob('[a-z]*.py'))
LAUNCH_FILE = ROOT / 'launch' / 'telepresence.launch.py'
DOCUMENTS = [*ROOT.glob('*.md'), *ROOT.glob('doc/*.md'), LAUNCH_FILE, ROOT / 'docker/Dockerfile']

HEAVY = {'aiohttp', 'av', 'cv2', 'mediapipe', 'rclpy', 'scipy', 'skimage', 'torch'}
ROS = re.compile(r'(rclpy|ament_index_python|rosidl\w*|tf2_ros|launch(_ros)?|\w+_(msgs|interfaces)'
                 r'|visa_ros\.(msg|action|nodes))(\.|$)')


def test_package_xml_is_valid_and_lists_what_the_messages_need():
    warnings = []
    package = parse_package(str(ROOT), warnings=warnings)
    package.validate(warnings=warnings)
    assert not warnings
    assert package.name == 'visa_ros'
    assert package.get_build_type() == 'ament_cmake'
    assert [group.name for group in package.member_of_groups] == ['rosidl_interface_packages']
    assert {'std_msgs', 'builtin_interfaces', 'action_msgs'} <= {
        depend.name for depend in package.build_depends}


def test_package_xml_names_every_ros_package_that_is_imported():
    package = parse_package(str(ROOT))
    declared = {depend.name.removesuffix('_py') for depend in package.exec_depends}
    imported = {name.partition('.')[0] for path in [*PYTHON.rglob('*.py'), LAUNCH_FILE]
                for name in imports(path) if ROS.match(name)} - {'visa_ros'}
    assert imported
    assert imported <= declared


def test_one_version_everywhere():
    newest = re.search(r'^(\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)\n-+$',
                       (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == parse_package(str(ROOT)).version == visa_ros.__version__


@pytest.mark.parametrize('node', NODES)
def test_each_node_has_a_main_and_an_executable(node):
    tree = ast.parse((PYTHON / 'nodes' / f'{node}.py').read_text())
    assert 'main' in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
    executable = Path(get_package_prefix('visa_ros'), 'lib', 'visa_ros', node)
    assert os.access(executable, os.X_OK)
    assert f'from visa_ros.nodes.{node} import main' in executable.read_text()


@pytest.mark.parametrize(
    'path', [*ROOT.glob('msg/*.msg'), *ROOT.glob('action/*.action')], ids=lambda path: path.name)
def test_each_block_of_message_fields_says_what_it_is(path):
    blocks = re.split(r'\n\s*\n|\n?^---$\n?', path.read_text(), flags=re.MULTILINE)
    assert len(blocks) > 2
    assert [block for block in blocks if block.strip() and not block.startswith('#')] == []


def test_importing_the_package_and_its_folders_loads_nothing_heavy():
    modules = ['visa_ros', 'visa_ros.types', 'visa_ros.config', 'visa_ros.errors',
               *(f'visa_ros.{path.parent.name}' for path in PYTHON.glob('*/__init__.py'))]
    loaded = subprocess.run(
        [sys.executable, '-c', f'import sys, {", ".join(modules)}; print(*sys.modules)'],
        check=True, capture_output=True, text=True).stdout.split()
    assert 'visa_ros.capture' in loaded
    assert HEAVY & set(loaded) == set()


def test_the_robots_side_runs_without_what_only_the_operators_side_needs():
    loaded = subprocess.run(
        [sys.executable, '-c', 'import sys, visa_ros.nodes.avatar_renderer, '
         'visa_ros.nodes.avatar_display; print(*sys.modules)'],
        check=True, capture_output=True, text=True).stdout.split()
    assert 'rclpy' in loaded
    assert {'mediapipe', 'torch'} & set(loaded) == set()


def test_only_the_nodes_import_ros():
    importing = {path.parent.name for path in PYTHON.rglob('*.py')
                 if any(ROS.match(name) for name in imports(path))}
    assert importing == {'nodes'}


def imports(path):
    """Return the absolute names that a module imports anywhere, however late."""
    names = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            names |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.level == 0:
            names |= {f'{item.module}.{alias.name}' for alias in item.names}
    return names


@pytest.mark.parametrize('path', [
    path for path in ROOT.glob('requirements*.txt') if path.stem != 'requirements-system'
], ids=lambda path: path.name)
def test_requirements_are_pinned_and_named_once(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith('#')]
    assert lines
    assert [line for line in lines
            if not re.fullmatch(r"[\w.-]+==\d[\w.]*(; platform_machine == '\w+')?", line)] == []
    table = (ROOT / 'doc' / 'dependencies.md').read_text()
    if path.stem != 'requirements-ros':
        assert [line for line in lines if line.partition('==')[0] not in table] == []


def test_no_tracked_file_names_a_path_of_one_machine():
    if not (ROOT / '.git').exists():
        pytest.skip('not a git checkout: which files are tracked is unknown')
    tracked = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.split('\0')
    assert 'package.xml' in tracked
    machine_path = re.compile(rb'(?<![\w.])/(?:farm|home|root|tmp|work)/')
    assert [name for name in tracked if name and (ROOT / name).is_file()
            and machine_path.search((ROOT / name).read_bytes())] == []


def launch_constants():
    """Return the constants of the launch file (the package `launch` is in no wheel)."""
    values = {}
    for item in ast.parse(LAUNCH_FILE.read_text()).body:
        if isinstance(item, ast.Assign):
            try:
                values[item.targets[0].id] = ast.literal_eval(item.value)
            except ValueError:
                continue
    return values


def launch_arguments():
    """Return name to keyword arguments (source text) of each DeclareLaunchArgument."""
    return {
        item.args[0].value: {word.arg: ast.unparse(word.value) for word in item.keywords}
        for item in ast.walk(ast.parse(LAUNCH_FILE.read_text()))
        if isinstance(item, ast.Call) and ast.unparse(item.func) == 'DeclareLaunchArgument'}


def test_launch_arguments_are_described_and_used_in_the_documents_by_their_names():
    arguments = launch_arguments()
    assert {'source', 'portrait', 'role', 'namespace', 'params_file'} <= set(arguments)
    assert all('description' in keywords and 'default_value' in keywords
               for keywords in arguments.values())
    used = set()
    for path in DOCUMENTS:
        for line in path.read_text().replace('\\\n', ' ').splitlines():
            if 'telepresence.launch.py' in line or 'docker run' in line:
                used |= set(re.findall(r'\b(\w+):=', line))
    assert used
    assert used <= set(arguments)


def test_the_readmes_table_has_every_launch_argument_with_its_default():
    rows = re.findall(r'^\| `(\w+)` \| (?:`([^`]*)`)? *\|',
                      (ROOT / 'README.md').read_text(), re.MULTILINE)
    for name, keywords in launch_arguments().items():
        default = ast.parse(keywords['default_value'], mode='eval').body
        assert (name, default.value) in rows


def test_launch_starts_the_nodes_that_exist_and_sets_parameters_that_exist():
    from visa_ros.nodes.avatar_reconstruction import AvatarConfig

    constants = launch_constants()
    roles = *constants['OPERATOR'], *constants['EDGE'], *constants['ROBOT']
    assert sorted((*roles, 'telepresence')) == NODES
    assert constants['RENDERER'] in constants['EDGE']
    parameters = {
        f'{prefix}.{item.name}': type(item.default)
        for prefix, config in (('camera', SourceConfig), ('capture', CaptureConfig),
                               ('avatar', AvatarConfig), ('display', DisplayConfig))
        for item in fields(config)}
    assert {parameters[name] for names in constants['PARAMETERS'].values()
            for name in names} == {str}
    assert set(constants['PARAMETERS']) <= set(launch_arguments())
    assert parameters['display.port'] is int  # of the argument `port`
    for choice in constants['DISPLAYS'].values():
        for name, value in choice.items():
            assert parameters[name] is type(value)


def test_rviz_shows_topics_that_a_node_publishes():
    view = yaml.safe_load((ROOT / 'config' / 'telepresence.rviz').read_text())
    topics = {display['Topic']['Value'] for display in view['Visualization Manager']['Displays']
              if 'Topic' in display}
    assert len(topics) >= 4
    strings = {item.value for path in (PYTHON / 'nodes').glob('*.py')
               for item in ast.walk(ast.parse(path.read_text())) if isinstance(item, ast.Constant)}
    assert topics <= strings


def test_foxglove_shows_topics_that_a_node_publishes():
    layout = json.loads((ROOT / 'config' / 'foxglove_layout.json').read_text())
    panels = json.dumps(layout['configById'])
    topics = {topic.removesuffix('/compressed')
              for topic in re.findall(r'"(?:/)([a-z_/]+)', panels)}
    assert {'frame_timing', 'shaded/image', 'diagnostics'} <= topics
    strings = {item.value.removeprefix('/') for path in (PYTHON / 'nodes').glob('*.py')
               for item in ast.walk(ast.parse(path.read_text()))
               if isinstance(item, ast.Constant) and isinstance(item.value, str)}
    strings |= {f'{name}/image' for name in ('coarse', 'shaded')}
    assert topics <= strings
    shown = set(re.findall(r'"([\w0-9]+![\w]+)"', json.dumps(layout['layout'])))
    assert shown == set(layout['configById'])


def test_the_fast_dds_profile_holds_images_and_reaches_other_machines():
    text = (ROOT / 'config' / 'fastdds_profile.xml').read_text()
    profile = ET.fromstring(text.encode())
    tags = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
    segment_bytes = int(profile.find(f'.//{tags}segment_size').text)
    assert segment_bytes >= 8 * 1920 * 1080 * 3
    assert {item.text for item in profile.iter(f'{tags}type')} == {'SHM', 'UDPv4'}
    assert profile.find(f'.//{tags}interfaceWhiteList') is None


def test_the_avatars_profile_sends_parts_that_fit_a_packet():
    profile = ET.fromstring((ROOT / 'config' / 'fastdds_avatar.xml').read_bytes())
    tags = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
    values = {item.find(f'{tags}name').text: item.find(f'{tags}value').text
              for item in profile.iter(f'{tags}property')}
    assert int(values['fastdds.max_message_size']) <= 1500 - 28  # Ethernet's, IP and UDP headers


def test_each_test_that_a_document_names_exists():
    text = (ROOT / 'doc' / 'bad_input.md').read_text()
    named = set(re.findall(r'`(test_\w+\.py)::(test_\w+)`', text))
    assert len(named) > 50
    there = {(path.name, item.name) for path in (ROOT / 'test').glob('test_*.py')
             for item in ast.walk(ast.parse(path.read_text()))
             if isinstance(item, ast.FunctionDef)}
    assert named <= there, named - there


def test_the_avatars_rate_is_the_launch_arguments():
    text = (ROOT / 'config' / 'fastdds_avatar.xml').read_text()
    assert '<max_bytes_per_period>${VISA_AVATAR_KBIT}0<' in text
    assert '<period_ms>80<' in text  # kbit/s = 10 bytes every 80 ms
    assert f"default_value='{AVATAR_KBIT}'" == (
        'default_value=' + launch_arguments()['avatar_kbit']['default_value'])
    launch = LAUNCH_FILE.read_text()
    assert "'VISA_AVATAR_KBIT'" in launch
    assert "'RMW_FASTRTPS_PUBLICATION_MODE': 'ASYNCHRONOUS'" in launch  # else: no flow control
