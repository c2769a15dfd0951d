// Command pubsub runs the in-memory double of Cloud Pub/Sub and prints its address.
package main

import (
	"log"
	"net/http"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/pubsub"
	"sawlog.test/doubles/internal/rest"
	"sawlog.test/doubles/internal/start"
)

func main() {
	listener := start.Listen("listen")[0]
	double, plan, denied := pubsub.New(), &faults.Plan{}, &permissions.Denied{}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(32<<20),
		grpc.UnaryInterceptor(plan.Unary),
		grpc.StreamInterceptor(plan.Stream),
	)
	pubsubpb.RegisterPublisherServer(server, double)
	pubsubpb.RegisterSubscriberServer(server, double)
	log.Fatal(rest.Serve(listener, server, pubsub.Admin(double, double, denied), map[string]http.Handler{
		faults.Path:      plan,
		permissions.Path: denied,
		"/_expire":       http.HandlerFunc(double.Expire),
		"/certs":         double.Tokens,
		"/token":         http.HandlerFunc(double.Tokens.Token),
	}))
}
