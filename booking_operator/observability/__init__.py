"""What others see of a running operator: metrics and health, over HTTP. It looks, and decides nothing."""
