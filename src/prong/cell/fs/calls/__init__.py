"""System calls on files and descriptors, a topic a module. Importing this package registers all of them."""

from prong.cell.fs.calls import attributes, descriptors, directories, names, opening, places, reading, stats, transfer

__all__ = ["attributes", "descriptors", "directories", "names", "opening", "places", "reading", "stats", "transfer"]
