"""Speed and memory beside other people's code and the machine's limits. Every figure is a ratio within one run."""
