"""The ROS 2 nodes: thin shells over the other folders, and the only place that imports rclpy."""
