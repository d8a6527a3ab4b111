"""The two LightningModules and what they share."""
