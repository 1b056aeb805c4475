"""Requests: render a manifest's call for a grant, send it within the limits, and judge the answer.

`template` and `url` put values in, `render` and `encode` make the request, `hosts` says where it may go, `client` and
`throttle` send it within the limits, `match` and `pages` read what comes back.
"""
