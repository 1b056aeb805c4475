"""Programs on this machine, spoken to in CGI/1.1 (RFC 3875)."""
