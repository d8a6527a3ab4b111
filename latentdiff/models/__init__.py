"""Networks as plain ``nn.Module``s: no training, no files."""
