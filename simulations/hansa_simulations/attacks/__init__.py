"""Attacks that test what reports claim: ``bounds`` says what trials prove, the others are the trials."""
