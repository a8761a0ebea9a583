"""The model file: sections, manifest, coding of numbers."""
