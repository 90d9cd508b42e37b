"""The notification channels: one module for each way to notify users."""
