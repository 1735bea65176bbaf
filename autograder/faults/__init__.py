"""The catalogue of faults: real bugs as small wrong implementations, one module per lab."""
