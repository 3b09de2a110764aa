# Which loop runs in this thread. See _running.pyx.

cdef object running_loop()
