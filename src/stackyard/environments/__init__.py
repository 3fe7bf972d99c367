"""
What each environment is: `envs/docker_environments.yaml` plus one env file each, read and checked as a whole.

Whatever is wrong in either file becomes one `ConfigError` that names file, key, value and rule; nothing else escapes.
"""

from stackyard.environments.dotenv import parse_env, read_env
from stackyard.environments.environment import Budget, Environment, Health, load_all
from stackyard.environments.roots import project_root
from stackyard.environments.rules import SERVICES, Data, Flavour

__all__ = [
    "SERVICES",
    "Budget",
    "Data",
    "Environment",
    "Flavour",
    "Health",
    "load_all",
    "parse_env",
    "project_root",
    "read_env",
]
