# The MLflow server, on its own: 663 MB that nothing else needs.
FROM python:3.12-slim-bookworm AS build
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group mlflow-server

FROM python:3.12-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
COPY --from=build /opt/venv /opt/venv
RUN mkdir /mlflow && chown 10001:10001 /mlflow
USER 10001:10001
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", \
     "--serve-artifacts", "--artifacts-destination", "/mlflow"]
