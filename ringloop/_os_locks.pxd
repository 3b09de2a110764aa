# POSIX locks. See _os_locks.pyx.
