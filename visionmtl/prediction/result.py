"""Stand-in until the class is moved here."""

from visionmtl.tasks.results import Result

__all__ = ["Result"]
