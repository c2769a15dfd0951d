// Command logging runs the in-memory doubles of Cloud Logging and Cloud Monitoring on one port and prints its address.
package main

import (
	"log"
	"net/http"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"cloud.google.com/go/monitoring/apiv3/v2/monitoringpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/logging"
	"sawlog.test/doubles/internal/monitoring"
	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/rest"
	"sawlog.test/doubles/internal/start"
)

func main() {
	listener := start.Listen("listen")[0]
	plan, denied := &faults.Plan{}, &permissions.Denied{}
	logs, metrics := logging.New(), monitoring.New()
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(32<<20),
		grpc.UnaryInterceptor(plan.Unary),
		grpc.StreamInterceptor(plan.Stream),
	)
	loggingpb.RegisterLoggingServiceV2Server(server, logs)
	monitoringpb.RegisterMetricServiceServer(server, metrics)
	ofLogs := logging.REST(logs, plan, denied)
	handler := func(request *http.Request, name string, body []byte) (proto.Message, error) {
		if answer, err, ok := monitoring.REST(metrics, plan, request, name, body); ok {
			return answer, err
		}
		return ofLogs(request, name, body)
	}
	log.Fatal(rest.Serve(listener, server, handler, map[string]http.Handler{
		faults.Path:         plan,
		permissions.Path:    denied,
		logging.ControlPath: logging.Control(logs),
	}))
}
