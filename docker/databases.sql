-- One role a database, so that the MLflow server cannot reach the ledger. Runs once, on an empty volume.
\getenv password STILLHOUSE_PASSWORD
CREATE ROLE stillhouse LOGIN PASSWORD :'password';
CREATE DATABASE stillhouse OWNER stillhouse;
REVOKE ALL ON DATABASE stillhouse FROM PUBLIC;

\getenv password MLFLOW_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE mlflow FROM PUBLIC;
