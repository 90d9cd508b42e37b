"""Commands for the maintainers of this project. They are not part of the package."""
