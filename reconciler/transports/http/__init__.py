"""HTTP/1.1 over connections of the program's own, and through proxies."""
