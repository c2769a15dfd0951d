"""The OpenTelemetry SDK as client, over gRPC and HTTP."""

import logging

import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from conftest import Server

RESOURCE = Resource.create({"service.name": "checkout", "service.version": "1.9.2", "cloud.region": "europe-west1"})


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_sdk_sends_logs_and_metrics(server: Server, transport: str):
    if transport == "grpc":
        log_exporter = GrpcLogExporter(endpoint=f"http://{server.grpc}", insecure=True)
        metric_exporter = GrpcMetricExporter(endpoint=f"http://{server.grpc}", insecure=True)
    else:
        log_exporter = HttpLogExporter(endpoint=f"{server.otlp_http}/v1/logs")
        metric_exporter = HttpMetricExporter(endpoint=f"{server.otlp_http}/v1/metrics")
    logs = LoggerProvider(resource=RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    logger = logging.getLogger(f"shop.{transport}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=logs))
    logger.error("payment failed for order %d", 42, extra={"http.response.status_code": 502, "order.items": 3})
    logs.shutdown()
    meters = MeterProvider(resource=RESOURCE, metric_readers=[PeriodicExportingMetricReader(metric_exporter)])
    meter = meters.get_meter("shop")
    meter.create_counter("orders", unit="{order}").add(5, {"kind": "gift"})
    meter.create_histogram("basket", unit="EUR").record(12.5)
    meters.shutdown()
    row = server.sql(
        "SELECT severity_number, severity_text, message, service, service_version, region, http_status, logger,"
        " attributes['order.items'], source FROM logs"
    )
    expected = [17, "ERROR", "payment failed for order 42", "checkout", "1.9.2", "europe-west1", 502, f"shop.{transport}", "3"]
    assert row == [[*expected, f"otlp-{transport}"]]
    points = server.sql("SELECT metric_name, metric_type, value_int, count, sum, attributes['kind'] FROM metrics ORDER BY metric_name")
    assert points == [
        ["basket", "histogram", None, 1, 12.5, None],
        ["orders", "sum", 5, None, None, "gift"],
    ]
