"""`ringloop.patch`, and frameworks that call the libraries it patches."""
