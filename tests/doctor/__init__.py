"""The command `python -m ringloop`: the doctor's report, and `run`, which gives a program its loop."""
