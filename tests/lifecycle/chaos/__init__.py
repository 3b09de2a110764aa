"""Random work of every kind, cancelled and closed at random moments, on loops closed over what is left.

An *act* is a coroutine that does one kind of work (`files.py`, `trees.py`, `calls.py`, `streams.py`,
`children.py`); `scene.py` is what it gets: the files to work on, and a dice of its own, so that what it does
depends on the seed and not on how fast the others are. `play.py` begins acts by the dozen, cancels most, ends
the loop, and then compares what the process holds with what it held before.

`python -m lifecycle.chaos LOOP SEED [ACT …]` (in tests/) does again what a failure names.
"""
