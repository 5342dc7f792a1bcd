"""A shop's answers in a run: plans, private sums, masked rounds, and who pays."""
