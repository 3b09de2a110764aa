"""`ringloop.Path`, compared with pathlib of the running Python on the same trees."""
