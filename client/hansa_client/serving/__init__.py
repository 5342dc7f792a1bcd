"""What a shop makes of the league's model for its customers; it stays at the shop."""
