# The MLflow server, on its own: 663 MB that nothing else needs.
FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group mlflow-server

FROM python:3.12-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN useradd --no-log-init --uid 10001 --home-dir /tmp --no-create-home stillhouse
COPY --from=build /opt/venv /opt/venv
WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
# Health checks every few seconds are no news.
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", \
     "--uvicorn-opts", "--no-access-log", "--serve-artifacts"]
