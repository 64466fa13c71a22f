"""Suites whose truth is known: the data are made, so that what matters in them is known exactly."""
