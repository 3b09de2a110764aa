# `ringloop.open`. Nothing of it is for other Cython rooms. See _opening.pyx.
