"""Channels: publish and subscribe across processes."""
