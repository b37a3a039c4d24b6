# The API, the migrations and beat: no torch, no compiler, no package manager at run time.
FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# The lock constrains and carries the hashes; the groups say which part of it is needed.
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group api --group cluster

FROM python:3.12-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
# The folders are made here so that a fresh volume on them belongs to the user.
RUN useradd --no-log-init --uid 10001 --home-dir /tmp --no-create-home stillhouse \
    && install --directory --owner=10001 --group=10001 /scratch
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY kdcore kdcore
COPY worker worker
COPY migrations migrations
COPY api api
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "api"]
