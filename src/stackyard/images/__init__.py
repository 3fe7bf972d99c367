"""The platform's images: built from the files of the tree, named by their content."""

from stackyard.images.sources import resolve_source
from stackyard.images.store import Image, ensure, listing, present, references

__all__ = ["Image", "ensure", "listing", "present", "references", "resolve_source"]
