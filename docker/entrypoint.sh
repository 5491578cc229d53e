#!/usr/bin/env bash
# Run a command with ROS, the Python packages and visa_ros in reach.
set -eo pipefail
source /opt/ros/jazzy/setup.bash
source /opt/visa_ros/.venv/bin/activate
source /opt/visa_ros/install/local_setup.bash
exec "$@"
