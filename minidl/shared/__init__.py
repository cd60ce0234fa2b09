"""Helpers for all floors above: names, numbers, files, plots and the terminal."""
