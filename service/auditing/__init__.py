"""The audit of the log: export, verification by replay, time travel, and why an event is as it is.

The verifier shares two things with the writer and no more: the published format of a line, and the pure domain's replay.
"""
