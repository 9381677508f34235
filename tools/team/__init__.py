"""The servers of a team, on one machine: PostgreSQL, an S3 server and MLflow's, on loopback, with passwords.

`make team-up` starts them to try things out; the tests start their own. See docs/team.md.
"""
