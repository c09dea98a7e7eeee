"""A model behind HTTP: the engine, the bodies of requests, the replies, the page."""
