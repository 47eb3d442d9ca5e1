"""Metrics, logs and alarms."""
