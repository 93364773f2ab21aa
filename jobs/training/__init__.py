"""`sdesweep train`: its specs, its loops, the run and the record of it."""
