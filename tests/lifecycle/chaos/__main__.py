"""One seed's play, again: `python -m lifecycle.chaos LOOP SEED [ACT …]`."""

import sys

from lifecycle.chaos.play import play

loop_name, seed, *names = sys.argv[1:]
print(play(loop_name, int(seed), names))
