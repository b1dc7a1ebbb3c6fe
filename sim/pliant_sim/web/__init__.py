"""A page on which a person draws a digit and sees what the simulated core makes of it."""
