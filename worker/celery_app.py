"""What ``celery -A worker.celery_app …`` loads; it needs `KD_BROKER_URL`, a worker needs more."""

from worker.cluster.application import make_application
from worker.settings import BrokerSettings

app = make_application(BrokerSettings())
