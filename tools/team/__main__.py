"""`python -m team up` and `python -m team down`: see `make help`."""

import sys
from pathlib import Path

from team import servers
from team.process import NotStarted


def main() -> int:
    """Start or end the servers."""
    command, *rest = sys.argv[1:] or [""]
    folder = Path(rest[0]) if rest else servers.default_folder()
    if command == "down":
        try:
            servers.down(folder)
        except servers.NotOurs as error:
            print(error, file=sys.stderr)
            return 1
        print(f"The servers have ended, and {folder} is gone")
        return 0
    if command != "up":
        print("usage: python -m team up|down [FOLDER]", file=sys.stderr)
        return 2
    try:
        made = servers.Servers(folder)
    except FileExistsError:
        print(f"{folder} is there already; to end what runs there: make team-down", file=sys.stderr)
        return 1
    except NotStarted as error:
        print(f"a server did not start:\n{error}", file=sys.stderr)
        return 1
    print(f"MLflow      {made.mlflow.address}  (people: {', '.join(servers.PEOPLE)})")
    print(f"S3          {made.s3.address}  buckets {servers.DATA}, {servers.ARTIFACTS}")
    print(f"PostgreSQL  {made.database('studies')}")
    print(f"\nAddresses and passwords: source {folder}/{servers.ENVIRONMENT}-{servers.PEOPLE[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
