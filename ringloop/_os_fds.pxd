# The functions of `os` on file descriptors. Nothing of it is for other Cython rooms. See _os_fds.pyx.
