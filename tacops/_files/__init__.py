"""Files: written whole or not at all, and what damaged ones raise."""
