"""Sequences of numbers: images read in order, series in time, and made-up tasks of memory."""
