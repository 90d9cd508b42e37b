"""The AWS adapters: EC2, RDS, clients, credentials, accounts and errors."""
