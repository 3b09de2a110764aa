"""The functions of `ringloop.os`. (The folder cannot be called `os`: tests/ is on the path.)"""
