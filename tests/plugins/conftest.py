"""What pytest must not import when it looks for doctests."""

from __future__ import annotations

collect_ignore = ["mine.py"]
"""Its parts would be in the registries of every test that runs in the same process."""
