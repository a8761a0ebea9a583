"""Networks of others: PyTorch modules, exported programs, the reference's checkpoints."""
