"""The admin API: routes, problems, sign-in."""
