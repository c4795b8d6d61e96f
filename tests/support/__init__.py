"""Parts that several test files share: oracles, models, servers, backends."""
