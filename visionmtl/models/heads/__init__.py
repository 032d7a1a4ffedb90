"""Heads: ``Pyramid`` p2..p5 -> the prediction of one task."""
