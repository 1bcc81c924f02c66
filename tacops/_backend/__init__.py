"""What a backend is, and which one an array belongs to."""
