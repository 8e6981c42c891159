"""The cluster's secret: where it comes from, and how programs detect its changes."""
