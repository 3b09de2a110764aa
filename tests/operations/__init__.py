"""The table of operations, and what is built on it: submit, batches, chains, system calls by number."""
