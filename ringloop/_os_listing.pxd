# Directories: listing them, and their entries. Nothing of it is for other Cython rooms. See _os_listing.pyx.
