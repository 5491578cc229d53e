"""Measurements as commands: ``python -m visa_ros.evaluation NAME`` prints a table, writes JSON."""
