"""Private sums: clipping, noise, accounting and the ledger live here and nowhere else."""
