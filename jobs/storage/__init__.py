"""What is kept, exactly once: commits, ledger, snapshots, images and features, leases, records of runs."""
