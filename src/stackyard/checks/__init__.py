"""
Verifying Dockerfiles, images, the Compose model and running stacks: each check a small object with an id.

Nothing is imported here: `host`, which checks this machine, needs none of the packages of the other modules.
"""
