"""The Kubernetes API, and the only package that imports kubernetes_asyncio."""
