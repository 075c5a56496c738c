"""Failures that a user can mend. The command line prints their message and ends with status 2, without a traceback."""

from __future__ import annotations


class RunError(Exception):
    """A run cannot start or go on; the message says what happened, where, and what to do."""


class ConfigError(RunError, ValueError):
    """A setting, a model reference or a name is wrong."""


class DataError(RunError, ValueError):
    """Data that cannot be read; the message names the file, the row and the field, and says what to do."""


class PreflightError(RunError, ValueError):
    """What a run needs can never be placed on the hardware that is there."""
