# The functions of `os` that are one system call. Nothing of it is for other Cython rooms. See _os.pyx.
