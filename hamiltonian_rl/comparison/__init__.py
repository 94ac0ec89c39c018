"""Several agents and seeds in one environment, measured in one way: planned, run side by side, and reported on."""
