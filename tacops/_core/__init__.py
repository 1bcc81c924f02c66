"""What the operators are made of: aggregation, synapses, neurons, the grid, and how a layer runs."""
