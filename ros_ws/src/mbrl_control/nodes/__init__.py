"""The ROS nodes: they translate between topics and the runtime, nothing else."""
