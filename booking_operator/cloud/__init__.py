"""Cloud services behind one port: `driver` says what the operator needs of them, the rest is AWS."""
