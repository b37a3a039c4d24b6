# The API and the migrations: no torch, no compiler, no package manager at run time.
FROM python:3.12-slim-bookworm AS build
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# The lock constrains and carries the hashes; the group says which part of it is needed.
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group api

FROM python:3.12-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY kdcore kdcore
COPY worker/__init__.py worker/log.py worker/
COPY worker/ledger worker/ledger
COPY worker/observing worker/observing
COPY worker/artifacts worker/artifacts
COPY migrations migrations
COPY api api
# Made here so that a fresh volume on it belongs to the user below.
RUN mkdir /artifacts && chown 10001:10001 /artifacts
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "api"]
