"""Traces, and the gateway's real scheduler on virtual time under them: the parts of `python -m loadtests simulate`."""
