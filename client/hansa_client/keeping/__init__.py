"""A shop's keys, from the invitation to the backup."""
