"""The console: pages for people, at /console. Each page calls the API's own routes, so it has no rules of its own."""
