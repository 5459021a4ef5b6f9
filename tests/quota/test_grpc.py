"""Limits through gRPC, by Google's own client: RESOURCE_EXHAUSTED, and when to come back."""

import concurrent.futures

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2

ENDPOINT = "projects/default/locations/us-central1/endpoints/topics"
SECONDS = 60


class WithKey(grpc.UnaryUnaryClientInterceptor):
    """Sends a key, which the library itself does over TLS only."""

    def __init__(self, key: str):
        self.key = key

    def intercept_unary_unary(self, go_on, details, request):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.key}")]
        return go_on(details._replace(metadata=metadata), request)


@pytest.fixture
def predict(server, key):
    """Asks for one prediction by gRPC, with a key of the test's own."""
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        kind = aiplatform.gapic.PredictionServiceClient
        transport = kind.get_transport_class("grpc")(channel=grpc.intercept_channel(channel, WithKey(key.text)))
        client = kind(transport=transport)
        bee = json_format.ParseDict("a bee", struct_pb2.Value())
        yield lambda rows=1: client.predict(endpoint=ENDPOINT, instances=[bee] * rows, retry=None, timeout=SECONDS)


def test_the_client_is_told_when_to_come_back(key, predict):
    key.limit(requests_per_minute=2)
    assert len(predict().predictions) == 1 and len(predict(3).predictions) == 3
    with pytest.raises(exceptions.ResourceExhausted, match="may make 2 requests a minute") as refused:
        predict()
    [retry] = refused.value.details
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert 1 <= retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 <= 30
    assert (key.used()["requests"], key.used()["rows"]) == (2, 4)


def test_what_many_were_told_at_once_is_what_is_counted(server, key, predict):
    price = {"rowsThousand": "1000"}
    assert server.ask("PUT", "/admin/v1/prices/topics", json=price).status_code == 200
    key.limit(monthly_budget=50)
    told = []

    def ask(rows: int):
        try:
            told.append(len(predict(rows).predictions))
        except exceptions.ResourceExhausted as refused:
            assert "budget" in refused.message
            assert refused.details and refused.details[0].retry_delay.seconds > 0

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, [1 + n % 3 for n in range(200)]))
    assert server.ask("DELETE", "/admin/v1/prices/topics").status_code == 200
    used = key.used()
    assert (used["requests"], used["rows"], used["cost"]) == (len(told), sum(told), str(sum(told)))
    assert 48 <= sum(told) <= 50
