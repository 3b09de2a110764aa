"""File objects: `ringloop.open` against builtins.open, on every loop under test."""
