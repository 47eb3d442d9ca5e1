"""Outgoing webhooks: alerts sent to the receivers that the settings name.

`receivers.py` reads who they are, `signing.py` signs what is sent, `schedule.py` says when to try again, and
`deliverer.py` does it; `command.py` is for people. Sending over HTTP is `service.http.outgoing`.
"""
