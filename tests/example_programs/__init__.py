"""The programs in examples/, as people run them; `examples` itself is the name of those."""
