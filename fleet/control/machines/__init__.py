"""The other machines of the fleet, as Temporal, the budgets and the machines themselves report them."""
