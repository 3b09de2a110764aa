# The functions of `os` on what a file has beside its data. Nothing of it is for other Cython rooms. See
# _os_attributes.pyx.
