"""64 MiB there and back over a bare socket: the floor has no other way, so this is `bulk_roundtrip_mbps` again."""

from benchmarks.floor.bulk_roundtrip_mbps import measure

__all__ = ["measure"]
