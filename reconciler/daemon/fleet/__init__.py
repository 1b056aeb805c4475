"""Several daemons over one state: members, their jobs, and which revision they act on."""
