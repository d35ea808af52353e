"""Errors of the sandbox layer; the gateway maps them to AWS's once, at its own boundary. [P]

A class's docstring is its default message and says whose fault it is: the function's, the caller's, or ours.
"""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox could not do what it was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or type(self).__name__)


class SandboxGone(SandboxError):
    """The sandbox is no longer there: it was stopped, or what held it up died. Ours; safe to try another sandbox."""


class RuntimeUnavailable(SandboxError):
    """This host cannot run that runtime on that architecture. Neither's fault; the message says what to install."""


class DriverUnavailable(SandboxError):
    """The driver cannot make sandboxes at the moment, for instance while its spawner restarts. Ours; worth a retry."""


class ImageError(SandboxError):
    """The image cannot be used. The caller's fault; the message is for him."""

    def __init__(self, message: str | None = None, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing  #: there is none; else it is no good
