"""Numbers and what they depend on: metrics, results files, cells of the table, FID lines."""
