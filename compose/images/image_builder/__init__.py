"""
The builder of the platform's images.

Bases come from a registry, or from the package registries of Debian and Python where there is none. The names of the
images are the library's (`stackyard.images.recipes`); this package builds them.
"""
