"""Models that can be stepped, one file each."""
