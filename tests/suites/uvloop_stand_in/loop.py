"""Stands for uvloop's extension module, of which the tests import private parts. There are none."""
