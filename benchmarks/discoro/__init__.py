"""This project under measurement, by its public names only."""
