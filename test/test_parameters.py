"""Parameters are written once, in the settings: files and nodes say the same."""
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from visa_ros.errors import InputError
from visa_ros.nodes import _policy
from visa_ros.nodes._params import Settings, declare
from visa_ros.nodes._reference import STAGES, as_markdown, as_yaml
from visa_ros.rendering.renderer import RenderingConfig

_ROOT = Path(__file__).resolve().parents[1]
_HINT = 'run: python -m visa_ros.nodes._reference'


@pytest.fixture
def make_node(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**overrides):
        nodes.append(Node('subject', context=context, parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in overrides.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_files_are_up_to_date():
    assert (_ROOT / 'config' / 'telepresence.yaml').read_text() == as_yaml(), _HINT
    assert (_ROOT / 'doc' / 'parameters.md').read_text() == as_markdown(), _HINT


def test_the_policy_is_up_to_date_and_has_an_enclave_for_each_executable():
    text = (_ROOT / 'config' / 'sros2_policy.xml').read_text()
    assert text == _policy.as_policy(), (
        'run: python -m visa_ros.nodes._policy > config/sros2_policy.xml')
    enclaves = {item.get('path'): item for item in ET.fromstring(text.encode()).iter('enclave')}
    executables = {path.stem for path in (_ROOT / 'visa_ros' / 'nodes').glob('[a-z]*.py')}
    assert set(enclaves) == {f'/visa_ros/{name}' for name in (*executables, 'monitor')}
    writers = {path for path, item in enclaves.items() for group in item.iter('topics')
               if group.get('publish') for topic in group if topic.text == 'avatar'}
    assert writers == {'/visa_ros/avatar_reconstruction', '/visa_ros/telepresence'}
    robot = ET.fromstring(_policy.as_policy('/robot1').encode())
    assert {item.get('ns') for item in robot.iter('profile')} == {'/robot1'}
    pair = ET.fromstring(_policy.as_policy('/ada', '/robot1').encode())
    renderer = next(item for item in pair.iter('enclave')
                    if item.get('path') == '/visa_ros/avatar_renderer')
    assert [item.get('ns') for item in renderer.iter('profile')] == ['/ada', '/robot1']


def test_the_yaml_file_parses_to_the_defaults():
    values = yaml.safe_load(as_yaml())['/**']['ros__parameters']
    for prefix, (config, _) in STAGES.items():
        assert values[prefix] == {item.name: item.default for item in fields(config)}
        assert config(**values[prefix]) == config()


@pytest.mark.parametrize('role', ['operator', 'edge', 'robot'])
def test_a_roles_file_sets_parameters_that_exist(role):
    values = yaml.safe_load((_ROOT / 'config' / f'{role}.yaml').read_text())['/**']
    for prefix, given in values['ros__parameters'].items():
        assert given
        STAGES[prefix][0](**given)


@pytest.mark.parametrize('prefix', STAGES)
def test_a_node_declares_them_with_description_and_default(make_node, prefix):
    node, config = make_node(), STAGES[prefix][0]
    assert declare(node, prefix, config) == config()
    for item in fields(config):
        descriptor = node.describe_parameter(f'{prefix}.{item.name}')
        assert descriptor.description == item.metadata['description']
        assert not descriptor.read_only


@pytest.mark.parametrize(('name', 'value'), [
    ('rendering__width', 3), ('rendering__width', 512.0), ('rendering__backend', 'magic'),
    ('rendering__background', 'blueish'), ('playback__hold_s', -1.0)])
def test_a_bad_value_is_refused_by_name(make_node, name, value):
    prefix = name.partition('__')[0]
    with pytest.raises(InputError, match=name.replace('__', r'\.')):
        declare(make_node(**{name: value}), prefix, STAGES[prefix][0])


def test_a_name_that_is_none_is_said_and_a_settings_fault_ends_nothing(make_node, caplog):
    def fail(_):
        raise ZeroDivisionError

    node = make_node(rendering__treads=1, playback__hold_s=1.0)  # the second is another node's
    settings = Settings(node, {'rendering': RenderingConfig}, lambda: True, fail)
    assert 'rendering.treads; did you mean rendering.threads?' in caplog.text
    assert 'playback' not in caplog.text
    result, = node.set_parameters([Parameter('rendering.threads', value=2)])
    assert result.successful
    assert settings.of(RenderingConfig).threads == 2
    assert 'not in effect' in caplog.text


def test_a_given_value_is_taken(make_node):
    config = declare(make_node(rendering__width=256), 'rendering', STAGES['rendering'][0])
    assert config.width == 256
