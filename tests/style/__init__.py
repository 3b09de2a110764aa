"""The house rules as tests. They read sources; the tests of documentation and tracebacks import ringloop."""
