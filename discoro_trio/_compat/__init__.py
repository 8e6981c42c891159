"""What programs written for the old system are told."""
