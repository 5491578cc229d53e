"""
Who may say what on the graph, as sros2 reads it: ``python -m visa_ros.nodes._policy NAMESPACE…``.

It prints the policy for nodes in these namespaces; config/sros2_policy.xml is that of the root
namespace (a test compares it, and the lists with what the nodes really open).  An enclave may
speak in each of them: a renderer in a robot's namespace takes poses from an operator's.
"""
from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import product

# What every node opens.
_EVERY_NODE = ('/rosout', '/parameter_events', '/diagnostics', '~/transition_event')
_SERVICES = ('change_state', 'get_available_states', 'get_available_transitions', 'get_state',
             'get_transition_graph','describe_parameters', 'get_parameter_types', 'get_parameters',
             'get_type_description', 'list_parameters', 'set_parameters',
             'set_parameters_atomically')
_PICTURES = ('coarse/image', 'coarse/image/compressed', 'shaded/image', 'shaded/image/compressed',
             'shaded/image/h264', 'shaded/image/ffmpeg', 'shaded/image/foxglove')
_IMAGE_RAW = ('image_raw', 'image_raw/compressed')
# ROS4HRI's; * is the operator's id (DDS permissions match names as file names are matched).
_HUMANS = ('humans/bodies/tracked', 'humans/bodies/*/joint_states', 'humans/bodies/*/roi',
           'humans/bodies/*/skeleton2d', 'humans/faces/tracked', 'humans/faces/*/facs',
           'humans/faces/*/landmarks', 'humans/faces/*/roi')
_POSES = ('operator_pose', 'operator_joint_states', 'skeleton', '/tf', *_HUMANS)


@dataclass(frozen=True)
class Permissions:
    """Topics that a node publishes and subscribes to, and actions that it executes."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()


# By node; in the process `telepresence` there are two.
NODES = {
    'video_source': Permissions(('image_raw',)),
    'pose_capture': Permissions(_POSES, _IMAGE_RAW),
    'avatar_reconstruction': Permissions(('avatar',), (), ('reconstruct',)),
    'avatar_renderer': Permissions((*_PICTURES, 'avatar/points', 'frame_timing'),
                                   ('operator_pose', 'avatar')),
    'avatar_display': Permissions(
        (), ('shaded/image', 'shaded/image/compressed', 'frame_timing')),
    'telepresence': Permissions(
        (*_POSES, *_PICTURES, 'avatar/points', 'frame_timing'), _IMAGE_RAW),
}
ENCLAVES = {node: (node,) for node in NODES} | {
    'telepresence': ('telepresence', 'avatar_reconstruction')}
PREFIX = '/visa_ros'


def as_policy(*namespaces: str) -> str:
    """
    Return the policy: an enclave for each executable, and 'monitor' for who looks at them.

    Parameters
    ----------
    *namespaces : str
        Of the nodes; by default the root.

    """
    namespaces = namespaces or ('/',)
    policy = ET.Element('policy', version='0.2.0')
    policy.append(ET.Comment(' python -m visa_ros.nodes._policy NAMESPACE: doc/sros2.md '))
    enclaves = ET.SubElement(policy, 'enclaves')
    for enclave, nodes in ENCLAVES.items():
        profiles = _profiles(enclaves, enclave)
        for node, namespace in product(nodes, namespaces):
            profile = ET.SubElement(profiles, 'profile', ns=namespace, node=node)
            may = NODES[node]
            _allow(profile, 'topic', 'publish', *_EVERY_NODE, *may.publish)
            _allow(profile, 'topic', 'subscribe', '/clock', *may.subscribe)
            _allow(profile, 'service', 'reply', *(f'~/{name}' for name in _SERVICES))
            _allow(profile, 'action', 'execute', *may.execute)
    profiles = _profiles(enclaves, 'monitor')
    for namespace in namespaces:
        monitor = ET.SubElement(profiles, 'profile', ns=namespace, node='monitor')
        _allow(monitor, 'topic', 'publish', '/rosout', '/parameter_events')
        _allow(monitor, 'topic', 'subscribe', '/clock', *dict.fromkeys(
            topic.replace('~', node) for node, may in NODES.items()
            for topic in (*_EVERY_NODE, *may.publish)))
        _allow(monitor, 'service', 'reply', *(f'~/{name}' for name in _SERVICES))
        _allow(monitor, 'service', 'request', *(
            f'{node}/{name}' for node in NODES for name in _SERVICES))
        _allow(monitor, 'action', 'call', 'reconstruct')
    ET.indent(policy)
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ET.tostring(policy, 'unicode') + '\n'


def _profiles(enclaves: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(ET.SubElement(enclaves, 'enclave', path=f'{PREFIX}/{name}'), 'profiles')


def _allow(profile: ET.Element, kind: str, what: str, *names: str) -> None:
    if names:
        group = ET.SubElement(profile, f'{kind}s', {what: 'ALLOW'})
        for name in names:
            ET.SubElement(group, kind).text = name


if __name__ == '__main__':
    print(as_policy(*sys.argv[1:]), end='')
