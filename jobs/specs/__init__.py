"""What is to be run, as data: the spec as written, sections, cells, configurations, checks."""
