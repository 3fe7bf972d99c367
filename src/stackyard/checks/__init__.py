"""
Verifying Dockerfiles, images, the Compose model and running stacks: each check a small object with an id.

Nothing is imported here: `host`, for `stackyard doctor`, needs none of the packages that the other modules read with.
"""
