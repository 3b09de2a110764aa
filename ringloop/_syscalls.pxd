# The numbers of system calls on this processor. Nothing of it is for other Cython rooms. See _syscalls.pyx.
