"""Configuration of a run: read, checked and written."""
