"""What a federation can expect before it spends any budget: from public figures alone, no data touched."""
