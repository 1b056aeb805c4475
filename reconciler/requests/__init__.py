"""Requests: a manifest's call and a grant's variables become bytes on the wire, and an answer becomes a verdict.

`template` and `url` put values in, `render` and `encode` make the request, `hosts` says where it may go, `client` and
`throttle` send it within the limits, `match` and `pages` read what comes back.
"""
