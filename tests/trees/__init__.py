"""`ringloop.shutil`, compared with shutil of the running Python on the same trees."""
