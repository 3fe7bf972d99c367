"""A complete, private copy of a platform in Docker for every test run."""
