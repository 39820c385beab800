"""`python -m redis_scheduler`: the same as the `redis-scheduler` command."""

from redis_scheduler.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
