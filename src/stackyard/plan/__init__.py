"""From a rendered Compose model to the model of one copy: pure functions, and a list of what they changed and why."""

from stackyard.plan.exclusive_claims import exclusive
from stackyard.plan.plan import Place, Plan, plan
from stackyard.plan.preview import Preview
from stackyard.plan.published_addresses import Address, addresses, variables
from stackyard.plan.records import Change, Concern, Verdict

__all__ = [
    "Address", "Change", "Concern", "Place", "Plan", "Preview", "Verdict", "addresses", "exclusive", "plan",
    "variables",
]  # fmt: skip
