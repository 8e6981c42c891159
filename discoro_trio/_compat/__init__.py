"""Errors and advice for programs written for the old system."""
