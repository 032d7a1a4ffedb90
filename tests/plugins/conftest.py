"""The plug-in is imported in a process of its own: here it would add to the registries."""

collect_ignore = ["mine.py"]
