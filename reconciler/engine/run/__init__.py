"""Make passes: plan the grants of a selection, and apply the plan."""
