"""The ends of things: of the interpreter, of loops, of processes that fork, of work at random moments."""
