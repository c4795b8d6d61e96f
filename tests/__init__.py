"""The package of all tests, whose shared parts are in `support`."""
