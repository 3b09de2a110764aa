# The end of a child process. See _children.pyx.
