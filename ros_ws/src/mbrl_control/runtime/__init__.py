"""What runs a robot, with no ROS and no torch in it."""
