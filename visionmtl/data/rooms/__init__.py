"""Procedural rooms."""
