"""Prediction on images of any size."""
