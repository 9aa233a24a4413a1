"""From what users bring to the problem that training minimises: checked arrays of one dtype."""
