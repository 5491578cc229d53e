"""
Show an operator's avatar: all on one machine, or each role on its own.

::

    ros2 launch visa_ros telepresence.launch.py                           # the demo
    ros2 launch visa_ros telepresence.launch.py source:=/dev/video0 portrait:=me.jpg

    # laptop, GPU machine, robot:
    ros2 launch visa_ros telepresence.launch.py role:=operator namespace:=ada
    ros2 launch visa_ros telepresence.launch.py role:=edge namespace:=ada
    ros2 launch visa_ros telepresence.launch.py role:=robot namespace:=ada

doc/deployment.md has more: several operators and robots, networks, the internet.
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

# The nodes of each role; the executable `telepresence` is all of them in one process.
OPERATOR = ('video_source', 'pose_capture')
EDGE = ('avatar_reconstruction', 'avatar_renderer')
ROBOT = ('avatar_display',)
RENDERER = 'avatar_renderer'
BUILDER = 'avatar_reconstruction'

# Parameters that an argument sets when it is not empty.
PARAMETERS = {
    'source': ('camera.source',),
    'portrait': ('avatar.portrait',),
    'operator_id': ('capture.operator_id', 'avatar.operator_id'),
    'camera_frame': ('camera.frame_id',),
}
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
        'role', default_value='all', choices=['all', 'operator', 'edge', 'robot'],
        description='What runs here: camera and capture, avatar and rendering, screen, or all'),
    DeclareLaunchArgument(
        'renderer', default_value='edge', choices=['edge', 'robot'],
        description='Which role draws: edge sends pictures to the robot, robot draws them itself'),
    DeclareLaunchArgument(
        'composed', default_value='true', choices=['true', 'false'],
        description='role:=all in one process, without a ROS hop from camera to screen; false: '
        'one process a node'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='ROS namespace of all nodes and topics'),
    DeclareLaunchArgument(
        'operator', default_value='',
        description="Namespace that the poses come from, and the avatar where it is not built "
        "here; empty: the own one"),
    DeclareLaunchArgument(
        'operator_id', default_value='',
        description='Whose poses and avatar these are, where there are several operators; empty: '
        'as params_file says'),
    DeclareLaunchArgument(
        'camera_frame', default_value='',
        description='TF frame of the camera, where there are several; empty: as params_file says'),
    DeclareLaunchArgument(
        'port', default_value='',
        description='TCP port of the web page, where one machine has several; empty: as '
        'params_file says'),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description="Parameters of all nodes; empty: config/ROLE.yaml, which says what differs "
        "from the defaults"),
    DeclareLaunchArgument(
        'avatar_kbit', default_value='8000',
        description='How fast the avatar is sent [kbit/s]: over a narrow link nine tenths of what '
        'it carries beside 200 kbit/s of poses'),
    DeclareLaunchArgument(
        'autostart', default_value='true', choices=['true', 'false'],
        description='Nodes configure and activate themselves; false: a lifecycle manager does'),
    DeclareLaunchArgument(
        'respawn', default_value='true', choices=['true', 'false'],
        description='Start a node again, 2 s after its process has ended'),
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
    role, on_robot = arguments['role'], arguments['renderer'] == 'robot'
    composed = IfCondition(LaunchConfiguration('composed')).evaluate(context)
    executables = {
        'all': ('telepresence',) if composed else OPERATOR + EDGE + ROBOT,
        'operator': OPERATOR,
        'edge': tuple(name for name in EDGE if not (on_robot and name == RENDERER)),
        'robot': ((RENDERER,) if on_robot else ()) + ROBOT,
    }[role]
    file = arguments['params_file'] or PathJoinSubstitution(
        [CONFIG, 'telepresence.yaml' if role == 'all' else f'{role}.yaml'])
    overrides = DISPLAYS[arguments['display']] | {
        parameter: ParameterValue(arguments[argument], value_type=str)
        for argument, parameters in PARAMETERS.items() if arguments[argument]
        for parameter in parameters} | {
        'lifecycle.autostart': arguments['autostart'] == 'true'}
    if arguments['port']:
        overrides['display.port'] = int(arguments['port'])
    if role == 'robot' and on_robot:  # the picture does not cross a network
        overrides['transport.compressed'] = False
    # Only the renderer's: a node publishes under its own namespace.
    elsewhere = ('operator_pose',) if BUILDER in executables else (
        'operator_pose', 'avatar')
    from_operator = [(topic, f'/{arguments["operator"].strip("/")}/{topic}')
                     for topic in elsewhere] if arguments['operator'] else []
    # The avatar crosses the network in parts of its own size, unless the user brings a profile.
    ours = CONFIG.perform(context) in context.environment['FASTRTPS_DEFAULT_PROFILES_FILE']
    avatar_profile = {'FASTRTPS_DEFAULT_PROFILES_FILE':
                      PathJoinSubstitution([CONFIG, 'fastdds_avatar.xml']),
                      'VISA_AVATAR_KBIT': arguments['avatar_kbit'],
                      'RMW_FASTRTPS_PUBLICATION_MODE': 'ASYNCHRONOUS'}
    return [
        Node(package=PACKAGE, executable=executable, output='screen',
             additional_env=avatar_profile if executable == BUILDER and ours else {},
             parameters=[file, overrides],
             remappings=from_operator if executable == RENDERER else [],
             respawn=arguments['respawn'] == 'true', respawn_delay=2.0,
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
