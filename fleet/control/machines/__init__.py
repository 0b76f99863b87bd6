"""The other machines of the fleet, as Temporal, the budgets and they themselves tell."""
