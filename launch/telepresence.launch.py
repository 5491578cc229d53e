"""
Show the operator's avatar: all on one machine, or the operator's and the robot's side apart.

::

    ros2 launch visa_ros telepresence.launch.py                           # the demo
    ros2 launch visa_ros telepresence.launch.py source:=/dev/video0 portrait:=me.jpg
    ros2 launch visa_ros telepresence.launch.py role:=operator namespace:=robot1  # on the laptop
    ros2 launch visa_ros telepresence.launch.py role:=robot namespace:=robot1     # on the robot
"""
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'visa_ros'
CONFIG = PathJoinSubstitution([FindPackageShare(PACKAGE), 'config'])

# The nodes of each side; the executable `telepresence` is both in one process.
OPERATOR = ('video_source', 'pose_capture', 'avatar_reconstruction')
ROBOT = ('avatar_renderer', 'avatar_display')

# Parameters that an argument sets when it is not empty.
PARAMETERS = {'source': 'camera.source', 'portrait': 'avatar.portrait'}
DISPLAYS = {
    '': {},
    'web': {'display.web': True, 'display.window': False},
    'window': {'display.web': False, 'display.window': True, 'display.fullscreen': False},
    'fullscreen': {'display.web': False, 'display.window': True, 'display.fullscreen': True},
    'none': {'display.web': False, 'display.window': False},
}

ARGUMENTS = (
    DeclareLaunchArgument(
        'source', default_value='',
        description="Camera or video: 'demo', a device such as /dev/video0, a stream, a file, or "
        "'topic' to take image_raw from a camera driver; empty: as params_file says"),
    DeclareLaunchArgument(
        'portrait', default_value='',
        description="Image file to build the avatar of, or 'demo'; empty: as params_file says"),
    DeclareLaunchArgument(
        'display', default_value='', choices=list(DISPLAYS),
        description='Where the pictures go; empty: as params_file says'),
    DeclareLaunchArgument(
        'role', default_value='all', choices=['all', 'operator', 'robot'],
        description='Which side runs here: camera and avatar, screen, or both'),
    DeclareLaunchArgument(
        'composed', default_value='true', choices=['true', 'false'],
        description='role:=all in one process, without a ROS hop from camera to screen; false: '
        'one process a node'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='ROS namespace of all nodes and topics'),
    DeclareLaunchArgument(
        'params_file', default_value=PathJoinSubstitution([CONFIG, 'telepresence.yaml']),
        description='Parameters of all nodes'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Start rviz with pictures, skeleton and avatar'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description="Take ROS time from /clock, as for 'ros2 bag play --clock'"),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severe messages that are logged'),
)


def start_nodes(context: LaunchContext) -> list[Node]:
    """Return the nodes that the arguments ask for."""
    arguments = context.launch_configurations
    composed = IfCondition(LaunchConfiguration('composed')).evaluate(context)
    executables = {
        'all': ('telepresence',) if composed else OPERATOR + ROBOT,
        'operator': OPERATOR,
        'robot': ROBOT,
    }[arguments['role']]
    overrides = DISPLAYS[arguments['display']] | {
        parameter: ParameterValue(arguments[argument], value_type=str)
        for argument, parameter in PARAMETERS.items() if arguments[argument]}
    return [
        Node(package=PACKAGE, executable=executable, output='screen',
             parameters=[arguments['params_file'], overrides],
             # Which certificate and permissions it has where SROS 2 is on (doc/sros2.md).
             ros_arguments=['--log-level', arguments['log_level'],
                            '--enclave', f'/visa_ros/{executable}'])
        for executable in executables
        if not (executable == 'video_source' and arguments['source'] == 'topic')]


def generate_launch_description() -> LaunchDescription:
    """Describe arguments, environment and nodes."""
    return LaunchDescription([
        *ARGUMENTS,
        # Room for camera images in shared memory, unless the user brings a profile.
        SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', EnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE',
            default_value=PathJoinSubstitution([CONFIG, 'fastdds_profile.xml']))),
        GroupAction([
            PushRosNamespace(LaunchConfiguration('namespace')),
            SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
            OpaqueFunction(function=start_nodes),
            Node(package='rviz2', executable='rviz2', output='screen',
                 arguments=['-d', PathJoinSubstitution([CONFIG, 'telepresence.rviz'])],
                 condition=IfCondition(LaunchConfiguration('rviz'))),
        ]),
    ])
