# The service as an image: `docker run IMAGE` is the all-in-one service, `docker run IMAGE worker` one role of it.
#
#   docker build -t redis-scheduler .
#   docker run -p 8080:8080 -v redis-scheduler:/data -e API_AUTH=a-secret-token \
#     -e DELIVERY_AUTH=derived --stop-timeout 30 redis-scheduler
#
# - API_AUTH is wanted: without it the service listens on 127.0.0.1 only, which in a container nobody can reach. The log
#   says so.
# - The private Redis keeps its data in /data: name the volume, or it goes with the container. A folder of the host
#   that is mounted there must belong to uid 10001, and only that user may write to it; the log says what to mend. Where
#   a volume belongs to another user, as in Kubernetes, set DATA_DIR to a new folder in it, such as /data/scheduler.
# - A webhook on the host itself is http://host.docker.internal:PORT/ with --add-host host.docker.internal:host-gateway.
# - `docker stop` waits 10 seconds by itself, less than SHUTDOWN_GRACE and the private Redis may take: --stop-timeout 30.

FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv --without-pip /venv
# The dependencies first, so that a change of the code does not install them again; each by its hash. setuptools builds
# the package, and stays behind. Not there is the server of Python's package index: below is one of Debian's.
COPY requirements.lock ./
RUN grep '^setuptools==' requirements.lock > build.lock \
 && grep -v '^setuptools==' requirements.lock > service.lock \
 && pip --no-cache-dir --disable-pip-version-check install --require-hashes --only-binary :all: --requirement build.lock \
 && pip --python /venv/bin/python --no-cache-dir --disable-pip-version-check \
      install --require-hashes --only-binary :all: --requirement service.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --disable-pip-version-check wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && pip --python /venv/bin/python --disable-pip-version-check install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
# redis-server is the server of the embedded default, of the same kind as before, since Valkey does not open its volumes; containers
# of the roles `api` and `worker` do not use it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin scheduler \
 && install -d -o scheduler -g scheduler -m 700 /data
COPY --from=build /venv /venv
# By the last one the service knows that nobody outside reaches its loopback.
ENV PATH=/venv/bin:$PATH DATA_DIR=/data REDIS_SCHEDULER_IMAGE=1
# The official image has no bytecode of the standard library, and the service's user cannot write it: compiled here, once,
# is what the service imports. Else every start and every health check would compile it again.
RUN python -c "import redis_scheduler.process.service, redis_scheduler.process.supervisor, redis_scheduler.cli, uvloop" && redis-scheduler --version
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# True for each role: a process's event loop touches a file, every 5 seconds. A look costs 0.15 s of CPU.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=2 CMD ["redis-scheduler", "health"]
# tini passes the signal on: the service drains, then stops its Redis. As process 1 itself it would miss a signal that
# comes before it listens for one, and be killed when the wait for it is over.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "redis-scheduler"]
CMD []
